"""Saving what was trained and what was measured: safetensors and JSON, never pickle, never half a file."""

import hashlib
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from .models import CNN, MLP, ConvNet

FORMAT = "kdutils-model-1"
ARCHITECTURES = {"MLP": MLP, "CNN": CNN, "ConvNet": ConvNet}


class ResultsError(ValueError):
    """A file is not what it should be. The message says which file and why."""


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write the whole file or, if anything goes wrong, leave the old one as it was.

    The bytes go to a temporary file in the same folder, are forced to the disk, and replace ``path`` in one step.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's files are private; a result is to be shared
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def save_model(path: str | Path, model: MLP | CNN | ConvNet, **notes: Any) -> Path:
    """Save the weights to ``path`` (``.safetensors``) and how to rebuild the network beside it (``.json``).

    Args:
        path: ends in ``.safetensors``; the folder exists.
        model: an :class:`~kdutils.models.MLP`, :class:`~kdutils.models.CNN` or :class:`~kdutils.models.ConvNet`.
        notes: anything JSON can hold, such as ``seed=0, val_errors=91``; it is stored in the sidecar.

    Returns:
        The path of the weights.
    """
    path = _weights_path(path)
    if type(model).__name__ not in ARCHITECTURES:
        raise ResultsError(f"can save {', '.join(ARCHITECTURES)}, got {type(model).__name__}")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = safetensors.torch.save(weights)
    sidecar = {
        "format": FORMAT,
        "architecture": type(model).__name__,
        "config": model.config,
        "sha256": hashlib.sha256(content).hexdigest(),
        "notes": notes,
    }
    # The sidecar's text first: notes that JSON cannot hold must not cost the weights that were there.
    sidecar_text = _to_json(path.with_suffix(".json"), sidecar)
    write_atomically(path, content)
    write_atomically(path.with_suffix(".json"), sidecar_text)
    return path


def load_model(path: str | Path) -> MLP | CNN | ConvNet:
    """The network that :func:`save_model` wrote, on the CPU and in eval mode.

    Raises:
        ResultsError: a pickle, a truncated file, a missing or foreign sidecar, weights that do not fit.
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
        raise ResultsError(f"{sidecar_path} is missing: it says how to build the network whose weights {path} holds")
    sidecar = load_results(sidecar_path)
    if sidecar.get("format") != FORMAT or sidecar.get("architecture") not in ARCHITECTURES:
        raise ResultsError(f"{sidecar_path} does not describe a model in format {FORMAT}")
    if sidecar.get("sha256") != hashlib.sha256(content).hexdigest():
        raise ResultsError(f"{sidecar_path} describes other weights than those in {path}: save both again")
    config = sidecar.get("config")
    if not isinstance(config, dict):
        raise ResultsError(f"{sidecar_path} has no config: it cannot say how to build the network")
    try:
        model = ARCHITECTURES[sidecar["architecture"]](
            **{key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
        )
    except (TypeError, ValueError) as error:
        raise ResultsError(f"the config in {sidecar_path} does not build a network: {error}") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ResultsError(f"the weights in {path} do not fit the network in {sidecar_path}: {error}") from error
    return model.eval()


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
