"""Digits in memory: real MNIST where it can be had, scikit-learn's small digits otherwise.

Images are float32 ``(N, 1, 28, 28)`` in [0, 1], labels int64 ``(N,)``. A whole data set is two tensors, so that an
epoch is a walk over indices and needs no loader, no workers and no per-image Python.
"""

import gzip
import hashlib
import os
import socket
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision.datasets import MNIST

from ..data import Split
from ..results import write_atomically

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
class DigitData:
    """A data set in three parts. Choose everything on ``val``; touch ``test`` once, at the end."""

    name: str
    train: Split
    val: Split
    test: Split


def load_dataset(name: str = "auto", root: str | Path | None = None) -> DigitData:
    """Load a data set of handwritten digits, split into train, validation and test.

    Args:
        name: "mnist" (50,000 / 10,000 / 10,000), "digits" (997 / 300 / 500, no download), or "auto": MNIST where it
            is on disk or can be downloaded, else digits, with a warning.
        root: folder that holds ``MNIST/raw``, or that folder itself; by default ``$KD_DATA``, else
            ``~/.cache/kdutils``. The four files may be there unpacked or as the ``.gz`` archives that servers offer.
            A folder is made only when a download has succeeded.

    Raises:
        DataError: MNIST is missing and cannot be downloaded, or one of its files is damaged or unreadable.
        ValueError: an unknown name.
    """
    if name not in ("auto", "mnist", "digits"):
        raise ValueError(f'name must be "auto", "mnist" or "digits", got {name!r}')
    if name == "digits":
        return _digits()
    raw = _raw_folder(Path(root or os.environ.get("KD_DATA") or Path.home() / ".cache" / "kdutils"))
    files = _stored_files(raw)
    missing = [name for name in MNIST_FILES if name not in files]
    if missing:
        try:
            files = _download_mnist(raw, missing)
        except DataError as error:
            if name == "mnist":
                raise
            warnings.warn(
                f"MNIST could not be had: this run uses scikit-learn's 1,797 small digits, and its numbers will differ "
                f"from the published ones. {error}",
                stacklevel=2,
            )
            return _digits()
    return _mnist(files)


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


def _mnist(files: dict[str, bytes]) -> DigitData:
    parts = []
    for part in ("train", "t10k"):
        # After a header of 8 or 16 bytes, a byte for each label and for each pixel; the sums of the files were checked.
        labels = torch.frombuffer(bytearray(files[f"{part}-labels-idx1-ubyte"]), dtype=torch.uint8, offset=8)
        content = bytearray(files[f"{part}-images-idx3-ubyte"])
        size = [int.from_bytes(content[place : place + 4], "big") for place in (4, 8, 12)]
        images = torch.frombuffer(content, dtype=torch.uint8, offset=16).reshape(size)
        parts.append(Split(images.unsqueeze(1).float() / 255, labels.long()))
    train, val = _stratified(parts[0], 10_000)
    return DigitData("mnist", train, val, parts[1])


def _raw_folder(folder: Path) -> Path:
    """Where the four files are, or where they belong, if the user named ``folder``."""
    folder = folder.expanduser().absolute()
    places = [folder / "MNIST" / "raw", folder / "raw", folder]
    for place in places:
        if any(os.path.exists(place / f"{name}{end}") for name in MNIST_FILES for end in ("", ".gz")):
            return place
    if folder.parts[-2:] == ("MNIST", "raw"):
        return folder
    return places[1] if folder.name == "MNIST" else places[0]


def _stored_files(raw: Path) -> dict[str, bytes]:
    """The contents of those of the four files that are in ``raw``, unpacked and checked."""
    files = {}
    for name, md5 in MNIST_FILES.items():
        for path in (raw / name, raw / f"{name}.gz"):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DataError(
                    f"cannot read MNIST: make {raw} readable, or set KD_DATA to another folder. "
                    f"{path}: {error.strerror}"
                ) from error
            if path.suffix == ".gz":
                try:
                    content = gzip.decompress(content)
                except (EOFError, OSError, zlib.error):
                    content = b""  # which has another sum
            if hashlib.md5(content).hexdigest() != md5:
                # Fashion-MNIST and others use the same names, so this may be somebody's good file.
                raise DataError(
                    f"{path} is damaged or of another data set: its content does not have the md5 sum of MNIST. "
                    f"Move it away and load again to download a good copy, or set KD_DATA to another folder."
                )
            files[name] = content
            break
    return files


def _download_mnist(raw: Path, missing: list[str]) -> dict[str, bytes]:
    """Fetch into a temporary folder, check, and only then make ``raw`` and write each missing file in one step.

    So a download that fails or dies leaves nothing behind in the user's folder, and two processes may download at once.
    """

    def cannot_store(error: OSError) -> DataError:
        return DataError(
            f"cannot store MNIST in {raw}: {error.strerror}. Set KD_DATA to a folder that can be written, or to one "
            f"that holds MNIST/raw already."
        )

    nearest = next(folder for folder in (raw, *raw.parents) if os.path.exists(folder))
    try:
        with tempfile.TemporaryFile(dir=nearest):  # no long download for a folder that cannot be written
            pass
    except OSError as error:
        raise cannot_store(error) from error
    try:
        with tempfile.TemporaryDirectory(prefix="kdutils-", ignore_cleanup_errors=True) as scratch:
            with _network_timeout(NETWORK_TIMEOUT):
                MNIST(scratch, download=True)
            files = _stored_files(Path(scratch) / "MNIST" / "raw")
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"MNIST is not in {raw}: set KD_DATA to the folder that holds MNIST/raw, or check the network. Missing: "
            f"{', '.join(missing)}. The download from {' or '.join(MNIST.mirrors)} failed: {reason}"
        ) from error
    try:
        raw.mkdir(parents=True, exist_ok=True)
        for name in missing:
            write_atomically(raw / name, files[name])
    except OSError as error:
        raise cannot_store(error) from error
    return files


@contextmanager
def _network_timeout(seconds: float) -> Iterator[None]:
    # torchvision opens its connections without a time-out; this default is the only handle it leaves.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
