"""How long an epoch of distillation takes, written in nine ways: run by `make bench`.

    tutorial   the loop of most tutorials: a DataLoader makes each image a tensor, one
               after the other, and the teacher answers anew at each step
    workers    the same with two worker processes, which live as long as the training
    tensors    the same loop; all images lie in one tensor, and a batch is an index
    stored     the same, and the teacher answers once, before the first step
    torchdistill        the tutorial's data and networks in torchdistill
    its cache           torchdistill stores the teacher's answers itself, one file an
                        image; so the images come one by one, from the tensor
    td tensors, td stored   torchdistill with data of ours, as in tensors and stored
    kdutils    kdutils.distill

The cache needs torchdistill 1.1.4: later versions have none.

All do the same steps, on the same images, from the same weights; nobody looks at
validation images while the clock runs, and errors are counted afterwards. Time and
memory are measured apart:

    time    one process for each round, student and batch size runs every way; in
            every second round in reverse order, so that what is compared ran within
            minutes, and no way is always first. What is done once is in the first
            epoch.
    memory  one process for each way, student and batch size, on all training images;
            of torchdistill only the first way, and kdutils three times.

All that is compared comes from one run on one machine; so nothing is resumed, and the
results are written when all are there, to book/results/bench-training.json. What `fit`
reaches of the peak stands alone: in the stored record it was measured again, with

    python book/experiments/bench_training.py peak
"""

import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from runlog import RESULTS, SCRATCH
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    TensorDataset,
)
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

STUDENTS = {
    "2×30": lambda: MLP((30, 30)),
    "2×800": lambda: MLP((800, 800)),
    "small CNN": lambda: CNN((8, 16), hidden=32),
}
BATCH_SIZES = (64, 512)
ROUNDS = 5
IMAGES = 5_120  # that are trained on where time is measured
EPOCHS = 3
LR, TEMPERATURE, SOFT_WEIGHT = 0.01, 4.0, 0.9
TEACHER = SCRATCH / "bench-training" / "teacher.safetensors"


# --- data ---


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


class WithAnswers(Dataset):
    """Images, labels and the teacher's logits, where torchdistill looks for more."""

    def __init__(self, train: Split, logits: torch.Tensor):
        self.train, self.logits = train, logits

    def __len__(self) -> int:
        return len(self.train)

    def __getitem__(self, index):
        some = self.train[index]
        return some.images, some.labels, {"logits": self.logits[index]}


def ask_once(teacher: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The teacher's logits for all images."""
    logits = torch.empty(len(images), 10)  # many parts, joined later, scatter memory
    with torch.no_grad():
        for start in range(0, len(images), 250):
            logits[start : start + 250] = teacher(images[start : start + 250])
    return logits


def whole_batches(data: Dataset, batch_size: int) -> BatchSampler:
    """Hands the data set the indices of a batch at once, if the loader makes none."""
    return BatchSampler(RandomSampler(data), batch_size, drop_last=False)


# --- three programs ---


def linear_decay(optimizer: SGD, steps: int) -> LambdaLR:
    """The schedule of kdutils: in a straight line from the learning rate to 0."""
    return LambdaLR(optimizer, lambda step: 1 - step / steps)


Times = tuple[list[float], float]  # when each epoch ended, and the last one's mean loss


def tutorial(
    student, teacher, train, batch_size, epochs, *, workers=0, kind="images"
) -> Times:
    """The usual loop."""
    device = pick_device()
    student.to(device).train()
    teacher.to(device).eval()
    if kind == "images":
        many = {"num_workers": workers, "persistent_workers": workers > 0}
        loader = DataLoader(train, batch_size, shuffle=True, **many)
    else:
        columns = [train.images, train.labels]
        if kind == "stored":
            columns.append(ask_once(teacher, train.images))
        data = TensorDataset(*columns)
        sampler = whole_batches(data, batch_size)
        loader = DataLoader(data, sampler=sampler, batch_size=None)
    optimizer = SGD(student.parameters(), LR, momentum=0.9, nesterov=True)
    scheduler = linear_decay(optimizer, epochs * len(loader))
    ends = []
    for _ in range(epochs):
        running_loss = 0.0
        for images, labels, *stored in loader:
            images, labels = images.to(device), labels.to(device)
            if stored:
                teacher_logits = stored[0].to(device)
            else:
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
        ends.append(time.perf_counter())
    return ends, running_loss / len(loader)


def with_torchdistill(
    student, teacher, train, batch_size, epochs, *, kind="images"
) -> Times:
    """torchdistill's box, without workers."""
    # Only `make bench` has it.
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.core.interfaces.registry import register_forward_proc_func

    @register_forward_proc_func
    def look_up(model, sample_batch, targets=None, supp_dict=None):
        return model(supp_dict["logits"])

    device = pick_device()
    student.to(device)
    teacher.to(device).eval()  # the box leaves the teacher's mode as it is
    steps = epochs * -(-len(train) // batch_size)
    wires = {"module_path": ".", "module_io": "output"}
    ends = {f"{who}_{k}": v for who in ("student", "teacher") for k, v in wires.items()}
    criterion = {
        "key": "KDLoss",
        "kwargs": ends | {"temperature": TEMPERATURE, "alpha": 1 - SOFT_WEIGHT},
    }
    loader = {
        "dataset_id": "train",
        "sampler": {"class_or_func": RandomSampler},
        "kwargs": {"batch_size": batch_size},
    }
    asked = "forward_batch_only"
    if kind in ("tensors", "stored"):
        loader["sampler"]["class_or_func"] = lambda data: whole_batches(
            data, batch_size
        )
        loader["kwargs"]["batch_size"] = None
    if kind == "stored":
        loader["requires_supp"] = False  # the data set brings more itself
        train = WithAnswers(train, ask_once(teacher, train.images))
        teacher, asked = nn.Identity(), "look_up"
    elif kind != "images":
        train = TensorDataset(train.images, train.labels)
    folder = None
    if kind == "cache":
        folder = loader["cache_output"] = tempfile.mkdtemp(dir=TEACHER.parent)
    config = {
        "num_epochs": epochs,
        "train_data_loader": loader,
        "teacher": {"forward_proc": asked, "requires_grad": False},
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
    data = {"train": train}
    box = get_distillation_box(teacher, student, data, config, device, None, False, 1)
    times = []
    for epoch in range(epochs):
        box.pre_epoch_process(epoch=epoch)
        running_loss = 0.0
        for images, labels, extra in box.train_data_loader:
            images, labels = images.to(device), labels.to(device)
            box.pre_forward_process()
            loss = box.forward_process(images, labels, extra)
            box.post_forward_process(loss)
            running_loss += loss.item()
        box.post_epoch_process()
        times.append(time.perf_counter())
    if folder is not None:
        if len(list(Path(folder).rglob("*.pt"))) != len(train):
            raise RuntimeError("this torchdistill stored no file for each image")
        shutil.rmtree(folder)
    return times, running_loss / len(box.train_data_loader)


def with_kdutils(student, teacher, train, batch_size, epochs) -> Times:
    """The book's own."""
    config = TrainConfig(
        epochs=epochs, batch_size=batch_size, lr=LR, seed=torch.initial_seed()
    )
    ends = []
    history = distill(
        student,
        teacher,
        train,
        None,
        config,
        temperature=TEMPERATURE,
        soft_weight=SOFT_WEIGHT,
        on_epoch=lambda _: ends.append(time.perf_counter()),
    )
    return ends, history.loss[-1]


WAYS = {  # the program, and what it is called with
    "tutorial": (tutorial, {}),
    "workers": (tutorial, {"workers": 2}),
    "tensors": (tutorial, {"kind": "tensors"}),
    "stored": (tutorial, {"kind": "stored"}),
    "torchdistill": (with_torchdistill, {}),
    "its cache": (with_torchdistill, {"kind": "cache"}),
    "td tensors": (with_torchdistill, {"kind": "tensors"}),
    "td stored": (with_torchdistill, {"kind": "stored"}),
    "kdutils": (with_kdutils, {}),
}
ONE_BY_ONE = ("tutorial", "workers", "torchdistill")  # from bytes
WEIGHED = (*ONE_BY_ONE, "tensors", "stored", "kdutils")


# --- time ---


def time_round(number: int, student_name: str, batch_size: int, *ways: str) -> list:
    """These ways, or all of them, one after the other in this process."""
    data = load_dataset("mnist")
    train, val = data.train[:IMAGES], data.val
    digits = Digits(train)
    warm_up()
    order = list(ways or WAYS)
    runs = []
    for way in order[:: -1 if number % 2 else 1]:
        torch.manual_seed(number)
        teacher, student = load_model(TEACHER), STUDENTS[student_name]()
        program, options = WAYS[way]
        images = digits if way in ONE_BY_ONE else train
        gc.collect()
        start = time.perf_counter()
        ends, loss = program(student, teacher, images, batch_size, EPOCHS, **options)
        runs.append(
            {
                "way": way,
                "student": student_name,
                "batch_size": batch_size,
                "round": number,
                "threads": torch.get_num_threads(),
                "first_seconds": ends[0] - start,
                "seconds": (ends[-1] - ends[0]) / (EPOCHS - 1),
                "loss": loss,
                "val_errors": count_errors(student.cpu(), val),
            }
        )
    return runs


def warm_up() -> None:
    """Whatever PyTorch loads or starts at its first use, for layers of no use."""
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    optimizer = SGD(net.parameters(), LR, momentum=0.9)
    for _ in range(2):
        F.log_softmax(net(torch.randn(8, 1, 4, 4)), dim=1).sum().backward()
        optimizer.step()
    a = torch.randn(300, 300)
    (a @ a).exp()


# --- memory ---


def memory(name: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at its peak (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def tree_bytes(process: int) -> int:
    """Bytes of a process and all below it; a page that n of them share counts 1/n."""
    total = 0
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total = int(line.split()[1]) * 1024
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                total += tree_bytes(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended while it was looked at
    return total


class TreePeak(threading.Thread):
    """Looks at this process and all below it, again and again."""

    def __init__(self):
        super().__init__(daemon=True)
        self.bytes, self.over = 0, threading.Event()

    def run(self) -> None:
        """What the thread does."""
        while not self.over.wait(0.005):
            self.bytes = max(self.bytes, tree_bytes(os.getpid()))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.join()


def measure_memory(way: str, student_name: str, batch_size: int) -> dict:
    """One epoch in this process: what it holds at its peak, and what it has to hold.

    The count begins when the libraries are loaded, before there are data or networks.
    The kernel keeps the peak of one process and misses nothing. Where there are workers
    as well, all are looked at every few milliseconds.
    """
    warm_up()
    if way == "torchdistill":
        import torchdistill.core.distillation  # noqa: F401
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    bare, bare_tree = memory("VmRSS"), tree_bytes(os.getpid())
    train = load_dataset("mnist").train
    pixels = train.images.numel()
    program, options = WAYS[way]
    if way in ONE_BY_ONE:
        train = Digits(train)  # bytes, a quarter of what float32 takes
    torch.manual_seed(0)
    teacher, student = load_model(TEACHER), STUDENTS[student_name]()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    if options.get("workers"):
        with TreePeak() as watch:
            program(student, teacher, train, batch_size, 1, **options)
        peak = watch.bytes - bare_tree
    else:
        program(student, teacher, train, batch_size, 1, **options)
        peak = memory("VmHWM") - bare
    needed = pixels * (1 if way in ONE_BY_ONE else 4) + train.labels.nbytes
    needed += 4 * count_parameters(teacher)
    needed += 3 * 4 * count_parameters(student)  # weights, gradients, momentum
    return {
        "way": way,
        "student": student_name,
        "batch_size": batch_size,
        "peak_bytes": peak,
        "needed_bytes": needed,
    }


# --- and the processor ---


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
        "threads": torch.get_num_threads(),
    }


def in_new_process(*arguments, threads: int | None = None) -> dict | list:
    """What this script prints when it is called with these arguments."""
    command = [sys.executable, __file__, *map(str, arguments)]
    here = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, env=here
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """All measurements, one after the other."""
    if not TEACHER.exists():
        TEACHER.parent.mkdir(parents=True, exist_ok=True)
        data, teacher = load_dataset("mnist"), MLP((1200, 1200), dropout=0.5)
        fit(teacher, data.train, data.val, TrainConfig(epochs=5))
        save_model(TEACHER, teacher)
    cases = [(student, size) for student in STUDENTS for size in BATCH_SIZES]
    runs, one_thread, peaks = [], [], []
    for number in range(ROUNDS):
        for case in cases:
            runs += in_new_process("time", number, *case)
            if number < 3:
                one = in_new_process("time", number, *case, "kdutils", threads=1)
                one_thread += one
            print(f"round {number + 1} of {ROUNDS}, {case}", flush=True)
    for case in cases:
        for way in WEIGHED:
            for _ in range(3 if way == "kdutils" else 1):
                peaks.append(in_new_process("memory", way, *case))
                print(peaks[-1], flush=True)
    record = {
        "machine": environment(),
        "torchdistill": version("torchdistill"),
        "threads": torch.get_num_threads(),
        "rounds": ROUNDS,
        "images": IMAGES,
        "epochs": EPOCHS,
        "peak": in_new_process("peak"),
        "runs": runs,
        "one_thread": one_thread,
        "memory": peaks,
    }
    save_results(RESULTS / "bench-training.json", record)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case ["peak"]:
            print(json.dumps(share_of_peak()))
        case ["time", number, student, batch_size, *ways]:
            print(json.dumps(time_round(int(number), student, int(batch_size), *ways)))
        case ["memory", way, student, batch_size]:
            print(json.dumps(measure_memory(way, student, int(batch_size))))
        case other:
            sys.exit(f"give nothing, peak, time … or memory …, not {other}")
