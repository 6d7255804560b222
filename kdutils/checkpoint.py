"""The file from which an interrupted training goes on, and the means to tell one run's file from another's."""

import hashlib
import io
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .evaluate import model_device
from .results import write_atomically


def save_checkpoint(path: str | Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Write what :func:`state_of` returned, and the history, to a file.

    Raises:
        OSError: the disk is full or the folder is gone. An older file at ``path`` is then as it was.
    """
    buffer = io.BytesIO()
    torch.save({"identity": identity, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: str | Path, identity: dict[str, Any], *, extend: bool) -> dict[str, Any]:
    """The state that :func:`save_checkpoint` wrote.

    Args:
        path: the file.
        identity: what must be the same for the file to belong to this run.
        extend: whether the file may be of a run with fewer epochs.

    Raises:
        ValueError: the file is damaged, or belongs to a run with another identity.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        saved = state["identity"]
        done = len(state["history"]["loss"])
    except Exception as error:  # torch.load has a dozen ways to say that a file is damaged
        # Its words are left out: they advise to open the file in a way that would run a pickle's code.
        kind = type(error).__name__
        raise ValueError(
            f"{path} is not a checkpoint of this package, or is damaged ({kind}). It stays as it is: name another"
        ) from error
    longer = saved.get("epochs") != identity["epochs"]
    if longer and extend:
        if identity["epochs"] < done:
            raise ValueError(f"{path} holds {done} epochs already, more than the {identity['epochs']} asked for")
        saved = saved | {"epochs": identity["epochs"]}
    differing = [
        f"{name} was {saved.get(name)!r}, is {identity[name]!r}"
        for name in identity
        if saved.get(name) != identity[name]
    ]
    if differing:
        hint = " To train on for more epochs, pass extend=True." if longer and len(differing) == 1 else ""
        raise ValueError(f"{path} belongs to another run: {'; '.join(differing)}. Name another file.{hint}")
    return state


def state_of(model: nn.Module, optimizer, scaler, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """All that a run needs to go on, besides its history."""
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "generators": [generator.get_state() for generator in generators],
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state() if model_device(model).type == "cuda" else None,
    }


def restore(state: dict[str, Any], model: nn.Module, optimizer, scaler, generators: Sequence[torch.Generator]) -> None:
    """Put what :func:`state_of` returned back, in place."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    for generator, saved in zip(generators, state["generators"], strict=True):
        generator.set_state(saved)
    torch.set_rng_state(state["random"])
    if state["random_cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["random_cuda"])


def check_place(path: str | Path) -> None:
    """Raise ValueError unless a file can be written at ``path``: now, and not after the first epoch."""
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"checkpoint {path}: there is no folder {path.parent}. Make it first")
    if path.is_dir():
        raise ValueError(f"checkpoint {path} is a folder: name a file in it")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"checkpoint {path}: the folder {path.parent} cannot be written to")


def describe(role: str, function: Any) -> str:
    """A name that is the same in the next run and differs for another function.

    Functions of a module have one, and so have a ``partial`` of them with plain values, and plain values themselves.

    Raises:
        ValueError: a lambda, a function in a function or in a notebook, an object: two of them may share their name.
    """
    if function is None or isinstance(function, bool | int | float | str):
        return repr(function)
    if isinstance(function, partial):
        parts = [describe(role, part) for part in function.args]
        parts += [f"{name}={describe(role, part)}" for name, part in function.keywords.items()]
        return f"{describe(role, function.func)}({', '.join(parts)})"
    if isinstance(function, Tensor):
        return digest({"": function})
    if isinstance(function, tuple | list):
        return f"({', '.join(describe(role, part) for part in function)})"
    module, name = (getattr(function, attribute, "") for attribute in ("__module__", "__qualname__"))
    found = sys.modules.get(module) if module != "__main__" else None
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not function:
        raise ValueError(
            f"{role} is {name or type(function).__name__}, which a checkpoint cannot tell from another of that name: "
            f'pass run_name="…", a name that you change whenever you change {role}'
        )
    return f"{module}.{name}"


def digest(tensors: dict[str, Tensor]) -> str:
    """A fingerprint of named tensors: 16 hexadecimal digits."""
    fingerprint = hashlib.sha256()
    for name, tensor in tensors.items():
        fingerprint.update(name.encode())
        # As bytes: NumPy has no bfloat16.
        fingerprint.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return fingerprint.hexdigest()[:16]


def digest_of(role: str, data: Any) -> str:
    """The fingerprint of examples in memory.

    Raises:
        ValueError: a loader, which cannot be compared without reading all of it.
    """
    inputs = getattr(data, "inputs", None)
    if inputs is None:
        raise ValueError(
            f"{role} comes from a {type(data).__name__}, which a checkpoint cannot tell from another one: pass "
            f'run_name="…", a name that you change whenever you change the data'
        )
    parts = dict(inputs) if isinstance(inputs, dict) else {"inputs": inputs}
    return digest(parts if data.labels is None else parts | {"labels": data.labels})
