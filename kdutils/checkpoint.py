"""The file from which an interrupted training goes on, and the means to tell one run's file from another's."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from .results import write_atomically


def save_checkpoint(path, identity, model, optimizer, shuffle, history: dict) -> None:
    """Write all that a run needs to go on: weights, momentum, the states of the random numbers, the history.

    Raises:
        OSError: the disk is full or the folder is gone. An older file at ``path`` is then as it was.
    """
    state = {
        "identity": identity,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "shuffle": shuffle.get_state(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state() if history["device"].startswith("cuda") else None,
        "history": history,
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path, identity, model, optimizer, shuffle) -> dict:
    """Put a saved run's state into the objects given, in place, and return its history.

    Raises:
        ValueError: the file is damaged, or belongs to a run with another identity; nothing is changed then.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        saved = state["identity"]
    except Exception as error:  # torch.load has a dozen ways to say that a file is damaged
        # Its words are left out: they advise to open the file in a way that would run a pickle's code.
        kind = type(error).__name__
        raise ValueError(f"{path} is not a checkpoint of this package, or is damaged ({kind}). Delete it") from error
    differing = [
        f"{name} was {saved.get(name)!r}, is {identity[name]!r}"
        for name in identity
        if saved.get(name) != identity[name]
    ]
    if differing:
        raise ValueError(f"{path} belongs to another run: {'; '.join(differing)}. Delete it or name another file")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    shuffle.set_state(state["shuffle"])
    torch.set_rng_state(state["random"])
    if state["random_cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["random_cuda"])
    return state["history"]


def run_identity(model, train, config, loss, augment) -> dict[str, object]:
    """What must be the same for a checkpoint to belong to this run."""
    settings = asdict(config)
    del settings["device"], settings["progress"]
    return settings | {
        "initial weights": digest(model.state_dict()),
        "examples": digest({"images": train.images, "labels": train.labels}),
        "loss": _describe(loss),
        "augment": _describe(augment) if augment else "none",
    }


def _describe(function: Callable) -> str:
    """The name of a function, with the arguments that a ``partial`` gives it, or the class of a callable object."""
    inner = getattr(function, "func", function)
    arguments = [getattr(function, name) for name in ("args", "keywords") if getattr(function, name, None)]
    return " ".join([getattr(inner, "__qualname__", type(inner).__qualname__), *map(repr, arguments)])


def digest(tensors: dict[str, Tensor]) -> str:
    """A fingerprint of named tensors: 16 hexadecimal digits."""
    fingerprint = hashlib.sha256()
    for name, tensor in tensors.items():
        fingerprint.update(name.encode())
        fingerprint.update(tensor.detach().cpu().contiguous().numpy())
    return fingerprint.hexdigest()[:16]
