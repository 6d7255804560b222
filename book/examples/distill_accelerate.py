"""Distil a student with Hugging Face Accelerate: a training loop in plain sight.

    python distill_accelerate.py --out result
    accelerate launch --num_processes 2 distill_accelerate.py --out result   (GPUs)
    torchrun --nproc_per_node 2 distill_accelerate.py --out result           (CPUs)

A teacher is trained on handwritten digits, then a student on the teacher's answers.
Accelerate shares each batch between the processes, on one GPU, several or none. If the
run is stopped, the same command goes on from the last whole epoch.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset
from tqdm.std import tqdm

from kdutils import (
    MLP,
    Split,
    count_errors,
    distillation_loss,
    freeze,
    load_dataset,
    save_model,
)

try:
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration, set_seed
except ImportError:
    sys.exit("This example needs Accelerate: pip install accelerate")


def train(
    accelerator: Accelerator,
    model: nn.Module,
    split: Split,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    folder: Path,
    options: argparse.Namespace,
) -> nn.Module:
    """Train ``model`` on ``loss(logits, images, labels)``, a mean over the batch."""
    # Full batches only: then each process has as many examples, and the mean of their
    # means, which Accelerate takes, is the mean over the batch. Where labels of -100
    # make the shares unequal, weigh each loss by the number of labels that count.
    data = TensorDataset(split.images, split.labels)
    loader = DataLoader(data, options.batch_size, shuffle=True, drop_last=True)
    steps = options.epochs * len(loader)
    if steps == 0:
        sys.exit(f"--batch-size {options.batch_size}: there are {len(data)} examples")
    settings = {"lr": options.lr, "momentum": 0.9, "nesterov": True}
    optimizer = torch.optim.SGD(model.parameters(), **settings)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / steps)
    model, optimizer, loader, schedule = accelerator.prepare(
        model, optimizer, loader, schedule
    )
    done = restore(accelerator, folder)
    bar = tqdm(
        range(done, options.epochs),
        desc=folder.name,
        unit="epoch",
        initial=done,
        total=options.epochs,
        disable=not accelerator.is_main_process,
    )
    model.train()
    for epoch in bar:
        loader.set_epoch(epoch)  # another order, the same one after a restart
        for images, labels in loader:
            mean = loss(model(images), images, labels)
            optimizer.zero_grad()
            accelerator.backward(mean)
            optimizer.step()
            schedule.step()
        bar.set_postfix(loss=f"{mean.item():.3g}")
        save(accelerator, folder, epoch + 1)
    trained = accelerator.unwrap_model(model)
    accelerator.free_memory()  # what is trained next is no part of this run's state
    return trained


def save(accelerator: Accelerator, folder: Path, epochs: int) -> None:
    """Save all that goes on, and name the folder when it is whole."""
    accelerator.save_state(folder / "partial")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        older = list(folder.glob("[0-9]*"))
        (folder / "partial").rename(folder / f"{epochs:04d}")
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


def restore(accelerator: Accelerator, folder: Path) -> int:
    """Load the last whole state, and return how many epochs it has seen."""
    states = sorted(folder.glob("[0-9]*"))
    if not states:
        return 0
    accelerator.load_state(states[-1])
    return int(states[-1].name)


def check_settings(path: Path, settings: dict) -> None:
    """A folder belongs to one run: other settings would be mixed with the old state."""
    old = json.loads(path.read_text()) if path.exists() else settings
    if old != settings:
        other = [
            f"{name} was {old.get(name)}"
            for name in settings
            if old.get(name) != settings[name]
        ]
        sys.exit(
            f"{path.parent} holds another run ({', '.join(other)}): name another folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def main() -> None:
    """Train the teacher, then the student, and count their errors on the test set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for states and weights")
    add("--dataset", choices=["auto", "mnist", "digits"], default="auto")
    add("--teacher-width", type=int, default=800, help="hidden units of the teacher")
    add("--student-width", type=int, default=16, help="hidden units of the student")
    add("--epochs", type=int, default=10)
    add("--batch-size", type=int, default=128, help="over all processes")
    add("--lr", type=float, default=0.05, help="learning rate of the first step")
    add("--temperature", type=float, default=4.0)
    add("--soft-weight", type=float, default=0.9, help="of the teacher; 0 to 1")
    add("--seed", type=int, default=0)
    options = parser.parse_args()

    # The batch size is that of all processes together, and the order of the examples
    # does not depend on how many there are: so two get the result of one.
    shared = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True)
    # Where there is no GPU it has to be told: it would take every process for a run of
    # its own, all writing to one folder.
    cpu = not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=cpu, dataloader_config=shared)
    if accelerator.is_main_process:
        settings = {
            name: value for name, value in vars(options).items() if name != "out"
        }
        check_settings(options.out / "settings.json", settings)
    accelerator.wait_for_everyone()
    digits = load_dataset(options.dataset)

    set_seed(options.seed)
    teacher = MLP((options.teacher_width,))
    student = MLP((options.student_width,))

    def hard(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    teacher = train(
        accelerator, teacher, digits.train, hard, options.out / "teacher", options
    )
    freeze(teacher)

    def soft_and_hard(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            answers = teacher(images)
        return distillation_loss(
            logits,
            answers,
            labels,
            temperature=options.temperature,
            soft_weight=options.soft_weight,
        ).total

    set_seed(options.seed)
    student = train(
        accelerator,
        student,
        digits.train,
        soft_and_hard,
        options.out / "student",
        options,
    )
    if accelerator.is_main_process:
        for name, model in {"teacher": teacher, "student": student}.items():
            errors = count_errors(model, digits.test)
            print(f"{name}: {errors} errors of {len(digits.test):,} test images")
            save_model(options.out / f"{name}.safetensors", model.cpu())
    accelerator.end_training()


if __name__ == "__main__":
    main()
