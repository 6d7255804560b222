"""Chapter 09: students of a small ResNet on colour pictures, both sides tuned.

    python book/experiments/own_data.py           all that is not recorded yet
    python book/experiments/own_data.py choice    one of the experiments

choice: learning rate of the labels; learning rate and T of distillation
sharp:  the same teacher with logits twelve times as large, and what helps then
final:  ten seeds of each at what was chosen, on the test pictures
shifted: labels on shifted views, as the teacher had them: rates, then ten seeds

Results go to book/results/own-data.json after every run. Stop it when you like.
"""

import functools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from hinton_2015 import main, mnist
from runlog import RunLog
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.transforms.v2.functional import pil_to_tensor

from kdutils import (
    Split,
    TrainConfig,
    count_errors,
    distill,
    fit,
    predict_logits,
    random_shift,
    temperature_for,
    warmup,
)
from kdutils.datasets.pictures import make_picture_folder

LOG = RunLog("own-data")
COUNTS = {"train": 2000, "val": 500, "test": 1000}
TEACHER = TrainConfig(epochs=10, batch_size=32, lr=0.05, weight_decay=5e-4)
STUDENT = {"epochs": 8, "batch_size": 64}
RATES = (0.01, 0.02, 0.05, 0.1)
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
CHOICE_SEEDS, SHARP_SEEDS, FINAL_SEEDS = range(100, 103), range(5), range(10)
SHARPER = 12.0
SHIFT = partial(random_shift, pixels=3)


@functools.cache
def pictures() -> dict[str, Split]:
    """Train, val and test, made from MNIST as in the chapter."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_picture_folder(Path(folder) / "pictures", mnist(), COUNTS)
        parts = {}
        for part in COUNTS:
            files = ImageFolder(
                made / part, lambda picture: pil_to_tensor(picture) / 255
            )
            images, labels = zip(*DataLoader(files, 256), strict=True)
            parts[part] = Split(torch.cat(images), torch.cat(labels))
    return parts


def make_teacher(classes: int) -> nn.Module:
    """A ResNet of one block a stage; its first layer is made for small pictures."""
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes)
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1, bias=False)
    return network


def make_student(classes: int, widths: tuple[int, ...] = (16, 32, 32)) -> nn.Module:
    """Three 3×3 convolutions with batch norm, each halving the picture; one linear
    layer.
    """
    layers: list[nn.Module] = []
    channels = 3
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, classes))


@functools.cache
def teacher_logits() -> dict[str, Tensor]:
    """What the teacher answers for each part; it is trained once, with a record of its
    own.
    """
    path = LOG.scratch / "logits.pt"
    if not path.exists():
        torch.manual_seed(0)
        teacher = make_teacher(10)
        with LOG.claim(experiment="teacher") as run:
            fit(
                teacher,
                pictures()["train"],
                None,
                TEACHER,
                augment=SHIFT,
                schedule=warmup(0.1),
            )
            logits = {
                part: predict_logits(teacher, split.images)
                for part, split in pictures().items()
            }
            if run is not None:
                for part, split in pictures().items():
                    run[part] = int((logits[part].argmax(1) != split.labels).sum())
                run["spread"] = round(float(logits["train"].std(dim=1).mean()), 3)
        torch.save(logits, path)
    return torch.load(path, weights_only=True)


def learn(
    seed: int,
    lr: float,
    temperature: float | None = None,
    *,
    logits: Tensor | None = None,
    augment: Callable[..., Tensor] | None = None,
    on: str = "val",
) -> dict[str, int]:
    """Errors of one student: on labels, or at a temperature on the teacher's logits."""
    torch.manual_seed(seed)
    student = make_student(10)
    config = TrainConfig(lr=lr, seed=seed, **STUDENT)
    if temperature is None:
        fit(student, pictures()["train"], None, config, augment=augment)
    else:
        answers = teacher_logits()["train"] if logits is None else logits
        distill(
            student,
            None,
            pictures()["train"],
            None,
            config,
            temperature=temperature,
            teacher_logits=answers,
        )
    return {"errors": count_errors(student, pictures()[on])}


def choice() -> None:
    """Validation errors for each rate, and each rate and temperature."""
    for seed in CHOICE_SEEDS:
        for lr in RATES:
            for temperature in (None, *TEMPERATURES):
                with LOG.claim(
                    experiment="choice", seed=seed, lr=lr, T=temperature
                ) as run:
                    if run:
                        run |= learn(seed, lr, temperature)


def chosen(temperatures: tuple[float | None, ...]) -> tuple[float, float | None]:
    """The rate and temperature with the fewest validation errors over the seeds of the
    choice.
    """
    errors: dict[tuple, int] = {}
    for run in LOG.runs(experiment="choice"):
        if run["T"] in temperatures:
            key = run["lr"], run["T"]
            errors[key] = errors.get(key, 0) + run["errors"]
    return min(errors, key=errors.__getitem__)


def sharp() -> None:
    """Logits SHARPER times as large, at the rate that is best for those as they are."""
    lr, temperature = chosen(TEMPERATURES)
    logits = SHARPER * teacher_logits()["train"]
    higher = round(temperature_for(logits), 2)
    for seed in SHARP_SEEDS:
        for name, how in {
            "labels": {"lr": chosen((None,))[0]},
            "as they are": {
                "lr": lr,
                "temperature": temperature,
                "logits": teacher_logits()["train"],
            },
            "sharp": {"lr": lr, "temperature": temperature, "logits": logits},
            "sharp, T raised": {
                "lr": lr,
                "temperature": higher,
                "logits": logits,
            },
            "sharp, T raised, rate lowered": {
                "lr": lr * temperature / higher,
                "temperature": higher,
                "logits": logits,
            },
            "sharp, divided": {
                "lr": lr,
                "temperature": temperature,
                "logits": logits / SHARPER,
            },
        }.items():
            with LOG.claim(experiment="sharp", name=name, seed=seed) as run:
                if run:
                    run |= {"lr": how["lr"], "T": how.get("temperature")} | learn(
                        seed, **how
                    )


def final() -> None:
    """Both sides at what was chosen, on the test pictures."""
    for seed in FINAL_SEEDS:
        for name, (lr, temperature) in {
            "labels": chosen((None,)),
            "distilled": chosen(TEMPERATURES),
        }.items():
            with LOG.claim(experiment="final", name=name, seed=seed) as run:
                if run:
                    run |= {"lr": lr, "T": temperature} | learn(
                        seed, lr, temperature, on="test"
                    )


def shifted() -> None:
    """Is it the teacher's answers, or the views that the teacher has seen?"""
    name = "labels, shifted"
    for seed in CHOICE_SEEDS:
        for lr in RATES:
            with LOG.claim(experiment=name, seed=seed, lr=lr) as run:
                if run:
                    run |= learn(seed, lr, augment=SHIFT)
    errors = {
        lr: sum(r["errors"] for r in LOG.runs(experiment=name, lr=lr)) for lr in RATES
    }
    lr = min(errors, key=errors.__getitem__)
    for seed in FINAL_SEEDS:
        with LOG.claim(experiment="final", name=name, seed=seed) as run:
            if run:
                run |= {"lr": lr, "T": None} | learn(seed, lr, augment=SHIFT, on="test")


if __name__ == "__main__":
    main({"choice": choice, "sharp": sharp, "final": final, "shifted": shifted})
