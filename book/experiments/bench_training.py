"""How long an epoch of distillation takes, written in four ways: run by `make bench`.

    tutorial     the loop of most tutorials: a DataLoader makes each image a tensor, one
                 after the other, and the teacher answers anew at each step
    workers      the same with two worker processes
    torchdistill the same data and networks in torchdistill
    kdutils      kdutils.distill

Each measurement is a process of its own, so that its peak of memory is its own. All
that is compared comes from one run on one machine; so nothing is resumed, and the
results are written when all are there, to book/results/bench-training.json.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from PIL import Image
from runlog import RESULTS, SCRATCH
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision.transforms import ToTensor

from kdutils import (
    CNN,
    MLP,
    Split,
    TrainConfig,
    count_errors,
    count_parameters,
    distill,
    environment,
    fit,
    load_dataset,
    load_model,
    pick_device,
    save_model,
    save_results,
)

WAYS = ("tutorial", "workers", "torchdistill", "kdutils")
STUDENTS = {
    "2×30": lambda: MLP((30, 30)),
    "2×800": lambda: MLP((800, 800)),
    "small CNN": lambda: CNN((8, 16), hidden=32),
}
BATCH_SIZES = (64, 512)
EPOCHS = 4  # the first is stored apart: whatever is done once is in it
LR, TEMPERATURE, SOFT_WEIGHT = 0.01, 4.0, 0.9
TEACHER = SCRATCH / "bench-training" / "teacher.safetensors"


# --- four ways to distil ---


class Digits(Dataset):
    """One image at a time from a PIL image, as torchvision's MNIST gives it."""

    def __init__(self, split: Split):
        self.images = (split.images * 255).round().byte().squeeze(1).numpy()
        self.labels = split.labels
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        image = Image.fromarray(self.images[index])
        return self.transform(image), int(self.labels[index])


def linear_decay(optimizer: SGD, steps: int) -> LambdaLR:
    """The schedule of kdutils: in a straight line from the learning rate to 0."""
    return LambdaLR(optimizer, lambda step: 1 - step / steps)


def tutorial(student, teacher, train, batch_size, workers=0) -> list[float]:
    """The usual loop. Returns the seconds of each epoch."""
    device = pick_device()
    student.to(device).train()
    teacher.to(device).eval()
    loader = DataLoader(train, batch_size, shuffle=True, num_workers=workers)
    optimizer = SGD(student.parameters(), LR, momentum=0.9, nesterov=True)
    scheduler = linear_decay(optimizer, EPOCHS * len(loader))
    seconds = []
    for _ in range(EPOCHS):
        start, running_loss = time.perf_counter(), 0.0
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            with torch.no_grad():
                teacher_logits = teacher(images)
            student_logits = student(images)
            soft = F.kl_div(
                F.log_softmax(student_logits / TEMPERATURE, dim=1),
                F.softmax(teacher_logits / TEMPERATURE, dim=1),
                reduction="batchmean",
            )
            hard = F.cross_entropy(student_logits, labels)
            loss = SOFT_WEIGHT * TEMPERATURE**2 * soft + (1 - SOFT_WEIGHT) * hard
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            running_loss += loss.item()
        seconds.append(time.perf_counter() - start)
    return seconds


def with_torchdistill(student, teacher, train, batch_size) -> list[float]:
    """torchdistill's box, without workers."""
    from torchdistill.core.distillation import get_distillation_box  # only `make bench`

    steps = EPOCHS * -(-len(train) // batch_size)
    wires = {"module_path": ".", "module_io": "output"}
    ends = {f"{who}_{k}": v for who in ("student", "teacher") for k, v in wires.items()}
    criterion = {
        "key": "KDLoss",
        "kwargs": ends | {"temperature": TEMPERATURE, "alpha": 1 - SOFT_WEIGHT},
    }
    config = {
        "num_epochs": EPOCHS,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": batch_size},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {
            "key": "SGD",
            "kwargs": {"lr": LR, "momentum": 0.9, "nesterov": True},
        },
        "scheduler": {
            "key": "LambdaLR",
            "kwargs": {"lr_lambda": lambda step: 1 - step / steps},
            "scheduling_step": 1,
        },
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": criterion, "weight": 1.0}}},
        },
    }
    device = pick_device()
    student.to(device)
    teacher.to(device).eval()  # the box leaves the teacher's mode as it is
    data = {"train": train}
    box = get_distillation_box(teacher, student, data, config, device, None, False, 1)
    seconds = []
    for epoch in range(EPOCHS):
        start = time.perf_counter()
        box.pre_epoch_process(epoch=epoch)
        for images, labels, extra in box.train_data_loader:
            images, labels = images.to(device), labels.to(device)
            box.pre_forward_process()
            loss = box.forward_process(images, labels, extra)
            box.post_forward_process(loss)
        box.post_epoch_process()
        seconds.append(time.perf_counter() - start)
    return seconds


def with_kdutils(student, teacher, train, val, batch_size) -> list[float]:
    """The book's own. Each epoch includes a look at the validation images."""
    config = TrainConfig(epochs=EPOCHS, batch_size=batch_size, lr=LR)
    soft = {"temperature": TEMPERATURE, "soft_weight": SOFT_WEIGHT}
    start = time.perf_counter()
    history = distill(student, teacher, train, val, config, **soft)
    # The teacher's logits are computed once, before the first epoch.
    before = time.perf_counter() - start - sum(history.seconds)
    return [before + history.seconds[0], *history.seconds[1:]]


# --- measuring ---


def memory(name: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at its peak (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def measure(way: str, student_name: str, batch_size: int) -> dict:
    """One way to distil, in this process."""
    torch.manual_seed(0)
    teacher, student = load_model(TEACHER), STUDENTS[student_name]()
    student(torch.zeros(batch_size, 1, 28, 28)).sum().backward()  # libraries are loaded
    student.zero_grad()
    bare = memory("VmRSS")
    data = load_dataset("mnist")
    train, val = data.train, data.val
    del data
    if way != "kdutils":
        train = Digits(train)  # bytes, a quarter of what float32 takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    if way == "kdutils":
        seconds = with_kdutils(student, teacher, train, val, batch_size)
    elif way == "torchdistill":
        seconds = with_torchdistill(student, teacher, train, batch_size)
    else:
        workers = 2 if way == "workers" else 0
        seconds = tutorial(student, teacher, train, batch_size, workers)
    peak = memory("VmHWM") - bare
    state = sum(part.images.nbytes + part.labels.nbytes for part in (train, val))
    state += 4 * count_parameters(teacher)
    state += 3 * 4 * count_parameters(student)  # weights, gradients, momentum
    return {
        "way": way,
        "student": student_name,
        "batch_size": batch_size,
        "first_seconds": seconds[0],
        "seconds": median(seconds[1:]),
        "val_errors": count_errors(student.cpu(), val),
        "peak_bytes": peak,
        "state_bytes": state,
    }


def share_of_peak() -> dict:
    """What ``fit`` reaches at 2×1200 and batch 512, and a matrix product alone."""
    device = pick_device()

    def matmul(size: int) -> float:
        a, b = torch.randn(2, size, size, device=device)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < 3:
            (a @ b)[0, 0].item()  # waits until it is there
            count += 1
        return 2 * size**3 * count / (time.perf_counter() - start)

    data, model = load_dataset("mnist"), MLP((1200, 1200))
    before = [matmul(size) for size in (1024, 2048, 4096)]
    history = fit(model, data.train, None, TrainConfig(epochs=4, batch_size=512, lr=LR))
    after = [matmul(size) for size in (1024, 2048, 4096)]
    weights = sum(weight.numel() for weight in model.parameters() if weight.dim() == 2)
    # Forward, backward to the weights, and to the layer below, which the first lacks.
    operations = 2 * len(data.train) * (3 * weights - 784 * 1200)
    return {
        "matmul_flops": max(before + after),
        "fit_flops": operations * 3 / sum(history.seconds[1:]),
    }


def in_new_process(*arguments) -> dict:
    """What this script prints when it is called with these arguments."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """All measurements, one after the other."""
    if not TEACHER.exists():
        TEACHER.parent.mkdir(parents=True, exist_ok=True)
        data, teacher = load_dataset("mnist"), MLP((1200, 1200), dropout=0.5)
        fit(teacher, data.train, data.val, TrainConfig(epochs=5))
        save_model(TEACHER, teacher)
    runs = []
    for student in STUDENTS:
        for batch_size in BATCH_SIZES:
            for way in WAYS:
                runs.append(in_new_process(way, student, batch_size))
                print(runs[-1], flush=True)
    record = {"machine": environment(), "threads": torch.get_num_threads()}
    record |= {"epochs": EPOCHS, "peak": in_new_process("peak"), "runs": runs}
    print(record["peak"], flush=True)
    save_results(RESULTS / "bench-training.json", record)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case ["peak"]:
            print(json.dumps(share_of_peak()))
        case [way, student, batch_size]:
            print(json.dumps(measure(way, student, int(batch_size))))
        case other:
            sys.exit(f"give nothing, or a way, a student and a batch size, not {other}")
