"""Saving what was trained and what was measured: safetensors and JSON, never pickle, never half a file."""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from .models import CNN, MLP, ConvNet

FORMAT = "kdutils-model-1"
ARCHITECTURES = {"MLP": MLP, "CNN": CNN, "ConvNet": ConvNet}


class ResultsError(ValueError):
    """A file is not what it should be. The message says which file and why."""


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write the whole file or, if anything goes wrong, leave the old one as it was.

    The bytes go to a temporary file in the same folder, are forced to the disk, and replace ``path`` in one step.

    Raises:
        OSError: no such folder, no right to write in it, no space; it names ``path``.
    """
    path = Path(path)
    name = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's files are private; a result is to be shared
        os.replace(name, path)
    except BaseException as error:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:  # it would name the temporary file, or none
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def save_model(path: str | Path, model: nn.Module, **notes: Any) -> Path:
    """Save the weights to ``path`` (``.safetensors``) and what they belong to beside it (``.json``).

    Args:
        path: ends in ``.safetensors``; the folder exists.
        model: an :class:`~kdutils.models.MLP`, :class:`~kdutils.models.CNN` or :class:`~kdutils.models.ConvNet`, which
            the sidecar says how to build again; or any other network, of which it keeps the name of the class.
        notes: anything JSON can hold, such as ``seed=0, val_errors=91``; it is stored in the sidecar.

    Returns:
        The path of the weights.

    Raises:
        ResultsError: a network whose state is not plain tensors (quantised layers), notes that JSON cannot hold.
        OSError: the folder is not there, or the disk is full.
    """
    path = _weights_path(path)
    kind = type(model)
    weights, shared = _weights(path, model)
    try:
        content = safetensors.torch.save(weights)
    except Exception as error:  # KeyError, RuntimeError, … by what it is that safetensors has no word for
        raise ResultsError(f"cannot write {path}: safetensors cannot store a {kind.__name__}: {error}") from error
    ours = ARCHITECTURES.get(kind.__name__) is kind
    sidecar = {
        "format": FORMAT,
        "architecture": kind.__name__ if ours else f"{kind.__module__}.{kind.__qualname__}",
        "config": model.config if ours else None,
        "sha256": hashlib.sha256(content).hexdigest(),
        "notes": notes,
    }
    if shared:
        sidecar["shared"] = shared
    # The sidecar's text first: notes that JSON cannot hold must not cost the weights that were there.
    sidecar_text = _to_json(path.with_suffix(".json"), sidecar)
    write_atomically(path, content)
    write_atomically(path.with_suffix(".json"), sidecar_text)
    return path


def load_model(path: str | Path, model: nn.Module | Callable[[], nn.Module] | None = None) -> nn.Module:
    """The network that :func:`save_model` wrote, in eval mode.

    Args:
        path: of the weights; ends in ``.safetensors``.
        model: a network of the same kind, or a function that builds one, to be filled with the weights. It stays on its
            device and takes the types of the saved weights, such as bfloat16. Networks of this package need none: they
            are built anew, on the CPU.

    Raises:
        ResultsError: a pickle, a truncated file, a missing or foreign sidecar, weights that do not fit: then ``model``
            is as it was.
        FileNotFoundError: there is no such file.
    """
    path = _weights_path(path)
    content = path.read_bytes()
    try:
        weights = safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        kind = "a pickle, which can run code when it is opened" if _looks_like_pickle(content) else "damaged or cut off"
        raise ResultsError(f"{path} is not a safetensors file but {kind}: {error}. Save the model again.") from error
    sidecar_path = path.with_suffix(".json")
    if not sidecar_path.exists():
        raise ResultsError(f"{sidecar_path} is missing: it says what the weights in {path} belong to")
    sidecar = load_results(sidecar_path)
    saved_class = sidecar.get("architecture")
    if sidecar.get("format") != FORMAT or not isinstance(saved_class, str):
        raise ResultsError(f"{sidecar_path} does not describe a model in format {FORMAT}")
    if sidecar.get("sha256") != hashlib.sha256(content).hexdigest():
        raise ResultsError(f"{sidecar_path} describes other weights than those in {path}: save both again")
    if model is None:
        model = _build(sidecar_path, saved_class, sidecar.get("config"))
    elif not isinstance(model, nn.Module):
        model = model()
        if not isinstance(model, nn.Module):
            raise ResultsError(f"model must be a network or a function that builds one, got {type(model).__name__}")
    try:
        weights |= {name: weights[kept] for name, kept in sidecar.get("shared", {}).items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ResultsError(f"{sidecar_path} names shared weights that {path} does not hold: save both again") from error
    kinds = f"{type(model).__name__}, where {sidecar_path} says {saved_class}"
    _fill(model, weights, f"the weights in {path} do not fit the network ({kinds})")
    return model.eval()


def _weights(path: Path, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The model's tensors on the CPU, each once; and for further names of the same tensor, the name it is kept by."""
    weights, shared, names, storages = {}, {}, {}, set()
    for name, tensor in model.state_dict().items():
        meta = isinstance(tensor, Tensor) and tensor.is_meta
        plain = isinstance(tensor, Tensor) and type(tensor.detach()) is Tensor and tensor.layout == torch.strided
        if meta or not plain or tensor.is_quantized:
            what = "on the meta device, without a value" if meta else f"no plain tensor, but a {type(tensor).__name__}"
            raise ResultsError(
                f"cannot write {path}: {name} of this {type(model).__name__} is {what}. Save the network as it was "
                f"before it was quantised or divided"
            )
        # Tied weights, as of an embedding and a head, are one tensor under two names.
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if place in names:
            shared[name] = names[place]
            continue
        names[place] = name
        # Of tensors that overlap in another way each gets memory of its own: safetensors refuses them otherwise.
        storage = tensor.untyped_storage().data_ptr()
        weights[name] = tensor.detach().to("cpu", copy=storage in storages).contiguous()
        storages.add(storage)
    return weights, shared


def _build(sidecar_path: Path, architecture: str, config: Any) -> nn.Module:
    if architecture not in ARCHITECTURES:
        raise ResultsError(
            f"{sidecar_path} is of {architecture}, which is no network of kdutils: build one and pass it, "
            f"load_model(path, model=network)"
        )
    if not isinstance(config, dict):
        raise ResultsError(f"{sidecar_path} has no config: it cannot say how to build the network")
    try:
        return ARCHITECTURES[architecture](
            **{key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
        )
    except (TypeError, ValueError) as error:
        raise ResultsError(f"the config in {sidecar_path} does not build a network: {error}") from error


def _fill(model: nn.Module, weights: dict[str, Tensor], complaint: str) -> None:
    """Give the model these weights, with their types, or leave it as it was and raise ResultsError."""
    own = model.state_dict(keep_vars=True)
    wrong = [f"lacks {name}" for name in own if name not in weights]
    wrong += [f"has {name} too many" for name in weights if name not in own]
    for name in [name for name in own if name in weights]:
        saved, here = weights[name], own[name]
        if saved.shape != here.shape or saved.is_floating_point() != here.is_floating_point():
            kinds = [f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in (saved, here)]
            wrong.append(f"has {name} as {kinds[0]} in place of {kinds[1]}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ResultsError(f"{complaint}: the file {'; '.join(wrong[:3])}{more}")
    if any(tensor.is_meta for tensor in own.values()):
        raise ResultsError(f"{complaint}: it is on the meta device, which has no memory. Build it on the CPU or a GPU")
    for name, tensor in own.items():
        tensor.data = tensor.data.to(weights[name].dtype)
    model.load_state_dict(weights)


def save_results(path: str | Path, results: dict[str, Any]) -> Path:
    """Write measurements as readable JSON. nan and infinity are refused: JSON has no word for them."""
    path = Path(path)
    write_atomically(path, _to_json(path, results))
    return path


def load_results(path: str | Path) -> dict[str, Any]:
    """Read what :func:`save_results` wrote."""
    path = Path(path)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultsError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(results, dict):
        raise ResultsError(f"{path} must hold a JSON object, got a {type(results).__name__}")
    return results


def _to_json(path: Path, results: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(results, indent=1, allow_nan=False, default=_plain, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ResultsError(f"cannot write {path}: {error}") from error
    return (text + "\n").encode()


def environment() -> dict[str, str]:
    """What a measurement depends on besides the seed: versions, processor, threads, GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "gpu": gpu,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _weights_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ResultsError(f"a model's path must end in .safetensors, got {path}")
    return path


def _looks_like_pickle(content: bytes) -> bool:
    # A pickle opens with the protocol mark; torch.save wraps one in a zip archive.
    return content[:1] == b"\x80" or content[:2] == b"PK"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON: {value!r}")
