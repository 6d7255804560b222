"""Digits in memory: real MNIST where it can be had, scikit-learn's small digits otherwise.

Images are float32 ``(N, 1, 28, 28)`` in [0, 1], labels int64 ``(N,)``. A whole data set is two tensors, so that an
epoch is a walk over indices and needs no loader, no workers and no per-image Python.
"""

import hashlib
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

# The four unpacked files of MNIST and their md5 sums.
MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
NETWORK_TIMEOUT = 10.0  # seconds without a byte before a server counts as hanging


class DataError(RuntimeError):
    """A data set could not be had. The message says which file or address, and what to do."""


@dataclass(frozen=True)
class Split:
    """Some examples: ``images`` float32 ``(N, 1, 28, 28)`` in [0, 1] and ``labels`` int64 ``(N,)``."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"images and labels differ in length: {len(self.images)} and {len(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index) -> "Split":
        """The examples at ``index``: a slice, a boolean mask, or a tensor of positions."""
        return Split(self.images[index], self.labels[index])

    def to(self, device: str | torch.device) -> "Split":
        """The same examples on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class DigitData:
    """A data set in three parts. Choose everything on ``val``; touch ``test`` once, at the end."""

    name: str
    train: Split
    val: Split
    test: Split


class Batch(NamedTuple):
    """``index[i]`` is the position of example i in the split, so that stored teacher logits can be looked up."""

    images: Tensor
    labels: Tensor
    index: Tensor


def load_dataset(name: str = "auto", root: str | Path | None = None) -> DigitData:
    """Load a data set of handwritten digits, split into train, validation and test.

    Args:
        name: "mnist" (50,000 / 10,000 / 10,000), "digits" (997 / 300 / 500, no download), or "auto": MNIST where it
            is on disk or can be downloaded, else digits, with a warning.
        root: folder that holds ``MNIST/raw``; by default ``$KD_DATA``, else ``~/.cache/kdutils``.

    Raises:
        DataError: MNIST is missing and cannot be downloaded, or one of its files is damaged or unreadable.
        ValueError: an unknown name.
    """
    if name not in ("auto", "mnist", "digits"):
        raise ValueError(f'name must be "auto", "mnist" or "digits", got {name!r}')
    if name == "digits":
        return _digits()
    folder = Path(root or os.environ.get("KD_DATA") or Path.home() / ".cache" / "kdutils").expanduser().absolute()
    missing = _missing_mnist_files(folder)
    if missing:
        try:
            _download_mnist(folder, missing)
        except DataError as error:
            if name == "mnist":
                raise
            warnings.warn(
                f"MNIST is not here and could not be fetched, so this run uses scikit-learn's 1,797 small digits: "
                f"its numbers will differ from the published ones. ({error})",
                stacklevel=2,
            )
            return _digits()
    return _read_mnist(folder)


def batches(
    split: Split,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    augment: Callable[..., Tensor] | None = None,
) -> Iterator[Batch]:
    """One epoch: every example once, in batches of ``batch_size`` (the last one may be smaller).

    Args:
        split: the examples, on any device.
        generator: a CPU generator that shuffles; without one the order is that of the split.
        augment: called as ``augment(images, generator=generator)``, such as ``partial(random_shift, pixels=2)``.

    Yields:
        :class:`Batch` ``(images, labels, index)``.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
    if augment is not None and generator is None:
        raise ValueError("augment needs a generator: random views without a seed could not be repeated")
    device = split.images.device
    order = torch.arange(len(split)) if generator is None else torch.randperm(len(split), generator=generator)
    for index in order.to(device).split(batch_size):
        images = split.images[index]
        if augment is not None:
            images = augment(images, generator=generator)
        yield Batch(images, split.labels[index], index)


def _digits() -> DigitData:
    raw = load_digits()
    small = torch.tensor(raw.images, dtype=torch.float32).unsqueeze(1) / 16  # (1797, 1, 8, 8)
    # As in MNIST: the digit fills the inner 20×20 pixels, and 4 pixels of margin surround it.
    images = F.pad(F.interpolate(small, size=20, mode="bilinear", align_corners=False), (4,) * 4)
    labels = torch.tensor(raw.target, dtype=torch.int64)
    rest, test = _stratified(Split(images, labels), 500)
    train, val = _stratified(rest, 300)
    return DigitData("digits", train, val, test)


def _stratified(split: Split, held_out: int) -> tuple[Split, Split]:
    kept, out = train_test_split(range(len(split)), test_size=held_out, stratify=split.labels, random_state=0)
    return split[torch.tensor(sorted(kept))], split[torch.tensor(sorted(out))]


def _read_mnist(folder: Path) -> DigitData:
    # By the files that were checked: the MNIST class would prefer a copy that an old version left in MNIST/processed.
    raw = str(folder / "MNIST" / "raw")
    parts = []
    for part in ("train", "t10k"):
        images = read_image_file(f"{raw}/{part}-images-idx3-ubyte")
        parts.append(Split(images.unsqueeze(1).float() / 255, read_label_file(f"{raw}/{part}-labels-idx1-ubyte")))
    train, val = _stratified(parts[0], 10_000)
    return DigitData("mnist", train, val, parts[1])


def _missing_mnist_files(folder: Path) -> list[str]:
    """The names of the files that are not there; DataError if one is there but damaged or unreadable."""
    raw = folder / "MNIST" / "raw"
    missing = []
    try:
        for name, md5 in MNIST_FILES.items():
            try:
                with open(raw / name, "rb") as file:
                    intact = hashlib.file_digest(file, "md5").hexdigest() == md5
            except FileNotFoundError:
                missing.append(name)
                continue
            if not intact:
                raise DataError(
                    f"{raw / name} is damaged: its {(raw / name).stat().st_size:,} bytes do not have the md5 sum "
                    f"of the original. Delete this file and load again to download a good copy."
                )
    except OSError as error:
        raise DataError(
            f"cannot read MNIST in {raw}: {error}. Make the folder readable, or set KD_DATA to another folder."
        ) from error
    return missing


def _download_mnist(folder: Path, missing: list[str]) -> None:
    """Fetch into a folder of this process's own, check, then move each file into place in one step.

    So two processes may download at once, and a download that dies leaves nothing half-written behind.
    """
    raw = folder / "MNIST" / "raw"
    try:
        raw.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".download-", dir=folder))
    except OSError as error:
        raise DataError(
            f"cannot store MNIST in {folder}: {error}. Set KD_DATA to a folder that can be written."
        ) from error
    try:
        with _network_timeout(NETWORK_TIMEOUT):
            MNIST(scratch, download=True)
        if _missing_mnist_files(scratch):
            raise DataError(f"the download of MNIST into {scratch} is incomplete. Load again.")
        for name in MNIST_FILES:
            os.replace(scratch / "MNIST" / "raw" / name, raw / name)
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{raw} lacks {', '.join(missing)}, and MNIST could not be downloaded from {' or '.join(MNIST.mirrors)}: "
            f"{error}. Check the network; or put the four unpacked files there, or set KD_DATA to a folder that holds "
            f"MNIST/raw."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _network_timeout(seconds: float) -> Iterator[None]:
    # torchvision opens its connections without a time-out; this default is the only handle it leaves.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
