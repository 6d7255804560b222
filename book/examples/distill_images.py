"""Distil a small classifier from a large one, on your own folder of pictures.

    python distill_images.py FOLDER --out result

FOLDER holds train/, val/ and test/, each with a folder of pictures per class, as
torchvision's ImageFolder reads them:

    FOLDER/train/cat/001.jpg   FOLDER/val/cat/501.jpg   FOLDER/test/cat/801.jpg

The same steps as in the chapter "Your own data": train a teacher, look at its logits,
choose learning rates and T on val, train students on labels and on the teacher for each
seed, count errors on test once, save the first student, export it to ONNX, compare and
time both. Stopped at any moment, the same command goes on where it was.
"""

import argparse
import copy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import get_model
from torchvision.transforms import v2

from kdutils import (
    Split,
    TrainConfig,
    check_distillation,
    count_errors,
    count_parameters,
    distill,
    distillation_loss,
    environment,
    fit,
    latency,
    mean_interval,
    predict_logits,
    save_model,
    save_results,
    warmup,
)

IN_MEMORY = 2 * 2**30  # bytes of pictures held as one tensor; a loader reads more


class SmallNet(nn.Sequential):
    """Pictures (N, 3, size, size) in, logits (N, classes) out; 19,546 weights for ten
    classes.
    """

    def __init__(self, classes: int, widths: tuple[int, ...] = (16, 32, 32)) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width in widths:
            layers += [
                nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        # Where in the picture something stands is kept: 4 × 4 places.
        layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten()]
        super().__init__(*layers, nn.Linear(channels * 16, classes))


def read_part(
    folder: Path, size: int, batch_size: int, workers: int
) -> tuple[Split | DataLoader, list[str]]:
    """The pictures of train, val or test, and the names of their classes."""
    if not folder.is_dir():
        sys.exit(
            f"{folder} is not there. FOLDER needs train, val and test, each with a "
            "folder of pictures per class."
        )
    to_tensor = v2.Compose(
        [
            v2.RGB(),
            v2.Resize((size, size)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    try:
        pictures = ImageFolder(folder, to_tensor)
    except FileNotFoundError as error:
        sys.exit(f"{folder}: {error}")
    loader = DataLoader(
        pictures, batch_size, shuffle=folder.name == "train", num_workers=workers
    )
    if len(pictures) * 3 * size * size * 4 > IN_MEMORY:
        return loader, pictures.classes
    images, labels = zip(*DataLoader(pictures, 256, num_workers=workers), strict=True)
    return Split(torch.cat(images), torch.cat(labels)), pictures.classes


def make_teacher(name: str, classes: int, size: int, weights: Path | None) -> nn.Module:
    """A network of torchvision with a new last layer; for small pictures with a first
    layer that keeps them large.
    """
    teacher = get_model(name, weights=None)
    if weights is not None:  # pretrained weights, as torchvision's own files have them
        teacher.load_state_dict(
            torch.load(weights, weights_only=True, map_location="cpu")
        )
    if not isinstance(getattr(teacher, "fc", None), nn.Linear):
        sys.exit(
            f"--teacher {name}: this script replaces the last layer by its name, fc, "
            "as the resnets have it"
        )
    teacher.fc = nn.Linear(teacher.fc.in_features, classes)
    if size < 96 and weights is None and hasattr(teacher, "conv1"):
        teacher.conv1 = nn.Conv2d(
            3,
            teacher.conv1.out_channels,
            kernel_size=3,
            stride=2,
            padding=1,
            bias=False,
        )
        teacher.maxpool = nn.Identity()
    return teacher


def say(text: str) -> None:
    """To the terminal, at once."""
    print(text, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """The whole program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="holds train/, val/ and test/")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="where results, checkpoints and the student go",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=32,
        help="pictures are brought to SIZE × SIZE pixels",
    )
    parser.add_argument(
        "--teacher",
        default="resnet18",
        help="a network of torchvision with a last layer called fc",
    )
    parser.add_argument(
        "--teacher-weights",
        type=Path,
        help="a file of torchvision's pretrained weights for it",
    )
    parser.add_argument("--teacher-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=8, help="of each student")
    parser.add_argument("--seeds", type=int, default=3, help="students of each kind")
    parser.add_argument(
        "--temperatures",
        type=float,
        nargs="+",
        default=[2.0, 4.0, 8.0],
        help="to choose from on val",
    )
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=[0.02, 0.05, 0.1],
        help="learning rates, likewise",
    )
    parser.add_argument("--soft-weight", type=float, default=0.9)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that read pictures"
    )
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error("--seeds must be at least 2: one run has no spread")
    options.out.mkdir(parents=True, exist_ok=True)
    distil(options)


def distil(options: argparse.Namespace) -> None:
    """Teacher, choice, students, test, export: each step goes on from what is there."""
    read = partial(
        read_part,
        size=options.size,
        batch_size=options.batch_size,
        workers=options.workers,
    )
    (train, classes), (val, val_classes), (test, test_classes) = (
        read(options.folder / part) for part in ("train", "val", "test")
    )
    if not classes == val_classes == test_classes:
        sys.exit(
            f"the parts have other classes: {classes} in train, {val_classes} in val, "
            f"{test_classes} in test"
        )
    say(f"{len(classes)} classes: {', '.join(classes)}")
    settings = partial(
        TrainConfig,
        batch_size=options.batch_size,
        device=options.device,
        progress=True,
    )

    def checkpoint(name: str) -> dict[str, object]:
        """From where a run that was stopped goes on, and what makes it that run."""
        path = options.out / f"{name}.ckpt"
        return {"checkpoint": path, "run_name": f"{options.folder.resolve()} {name}"}

    def run(
        kind: str, seed: int, lr: float, temperature: float | None = None
    ) -> tuple[nn.Module, int]:
        """One student and its validation errors; both kinds start from the same weights
        and see the same batches.
        """
        torch.manual_seed(seed)
        student = SmallNet(len(classes))
        at = f"-T{temperature:g}" if temperature else ""
        name = f"{kind}-lr{lr:g}{at}-seed{seed}"
        kept = checkpoint(name)
        config = settings(options.epochs, lr=lr, seed=seed)
        if temperature is None:
            history = fit(student, train, val, config, **kept)
        else:
            weights = {"temperature": temperature, "soft_weight": options.soft_weight}
            history = distill(student, teacher, train, val, config, **weights, **kept)
        say(f"{name}: {history.val_errors[-1]} validation errors")
        return student, history.val_errors[-1]

    torch.manual_seed(0)
    teacher = make_teacher(
        options.teacher, len(classes), options.size, options.teacher_weights
    )
    fit(
        teacher,
        train,
        val,
        settings(options.teacher_epochs, lr=0.05, weight_decay=5e-4),
        schedule=warmup(0.1),
        **checkpoint("teacher"),
    )
    say(
        f"teacher: {count_errors(teacher, val)} validation errors, "
        f"{count_parameters(teacher):,} parameters"
    )
    look_at_logits(teacher, train, options.temperatures)
    say(str(check(teacher, train, options, classes)))

    choices = {"labels": [(lr, None) for lr in options.rates]}
    choices["distilled"] = [
        (lr, t) for lr in options.rates for t in options.temperatures
    ]
    chosen = {}
    for kind, candidates in choices.items():
        errors = {candidate: run(kind, 1000, *candidate)[1] for candidate in candidates}
        chosen[kind] = min(errors, key=errors.get)
        say(
            f"{kind}: chosen on val: learning rate {chosen[kind][0]:g}, T "
            f"{chosen[kind][1] or '—'}"
        )

    counts: dict[str, list[int]] = {kind: [] for kind in chosen}
    for seed in range(options.seeds):
        for kind, candidate in chosen.items():
            student, _ = run(kind, seed, *candidate)
            counts[kind].append(count_errors(student, test))
            if kind == "distilled" and seed == 0:
                first = student
    size = len(test) if isinstance(test, Split) else len(test.dataset)
    results = {
        "test_errors": counts,
        "of": size,
        "teacher": count_errors(teacher, test),
        "chosen": chosen,
    }
    results["fewer_errors"] = mean_interval(
        np.subtract(counts["labels"], counts["distilled"])
    )
    say(f"test errors of {size:,}, teacher: {results['teacher']}")
    for kind, errors in counts.items():
        mean, low, high = mean_interval(errors)
        say(f"{kind:>10}: {mean:.1f} ({low:.1f} to {high:.1f}, {options.seeds} seeds)")
    mean, low, high = results["fewer_errors"]
    say(
        f"distillation removes {mean:.1f} errors ({low:.1f} to {high:.1f}, paired by "
        "seed)"
    )

    save_model(
        options.out / "student.safetensors",
        first.cpu(),
        classes=classes,
        size=options.size,
    )
    results["export"] = export(
        first.cpu(), options.out / "student.onnx", some_pictures(test)
    )
    save_results(options.out / "results.json", results | {"machine": environment()})
    say(f"written: {options.out / 'student.safetensors'}, student.onnx, results.json")


def some_pictures(data: Split | DataLoader, count: int = 256) -> Tensor:
    """The first pictures, on the CPU."""
    return (
        data.images[:count] if isinstance(data, Split) else next(iter(data))[0][:count]
    )


def look_at_logits(
    teacher: nn.Module, train: Split | DataLoader, temperatures: list[float]
) -> None:
    """How far apart the teacher's logits are, and how sure it is at each temperature: T
    is chosen among those between.
    """
    logits = predict_logits(teacher, some_pictures(train)).cpu()
    say(
        "the teacher's logits spread with a standard deviation of "
        f"{logits.std(dim=-1).mean():.1f} over the classes"
    )
    for temperature in temperatures:
        top = torch.softmax(logits / temperature, dim=-1).amax(dim=-1).mean()
        say(f"  at T = {temperature:g} its likeliest class has {top:.3f} on average")


def check(
    teacher: nn.Module,
    train: Split | DataLoader,
    options: argparse.Namespace,
    classes: list[str],
) -> object:
    """What check_distillation sees in one step of a loop of one's own with these
    networks.
    """
    images, labels = (
        (train.images[:64], train.labels[:64])
        if isinstance(train, Split)
        else next(iter(train))
    )
    teacher, student = copy.deepcopy(teacher).cpu().eval(), SmallNet(len(classes))

    def loss(
        student: nn.Module, teacher: nn.Module, batch: tuple[Tensor, Tensor]
    ) -> Tensor:
        with torch.no_grad():
            target = teacher(batch[0])
        return distillation_loss(
            student(batch[0]), target, batch[1], temperature=options.temperatures[0]
        ).total

    return check_distillation(student, teacher, (images, labels), loss)


def export(student: nn.Module, path: Path, pictures: Tensor) -> dict[str, float]:
    """Write the student as ONNX, compare ONNX Runtime's logits with PyTorch's, and time
    both on one picture.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        say(
            f"no ONNX export: {error.name} is not installed (pip install onnx "
            "onnxscript onnxruntime)"
        )
        return {}
    student.eval()
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        student,
        (pictures,),
        path,
        input_names=["pictures"],
        output_names=["logits"],
        dynamic_shapes=({0: batch},),
        dynamo=True,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def answer(inputs: Tensor) -> Tensor:
        return torch.from_numpy(
            session.run(["logits"], {"pictures": inputs.numpy()})[0]
        )

    gap = float((answer(pictures) - predict_logits(student, pictures)).abs().max())
    if gap > 1e-3:
        sys.exit(
            f"{path}: ONNX Runtime's logits differ from PyTorch's by up to {gap:.2g}"
        )
    one = pictures[:1]
    seconds = {
        "pytorch": latency(student, one).median,
        "onnxruntime": latency(answer, one).median,
    }
    milliseconds = {name: f"{1e3 * value:.2f} ms" for name, value in seconds.items()}
    say(f"ONNX: logits differ by at most {gap:.1e}; one picture takes {milliseconds}")
    return {
        "largest_difference": gap,
        **{f"{name}_seconds": value for name, value in seconds.items()},
    }


if __name__ == "__main__":
    main()
