"""How long, how fast and where a network is trained, and what is noted while it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral, Real

import torch


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and from which seed. The optimizer is SGD with Nesterov momentum, if no other is brought."""

    epochs: int = 10
    batch_size: int = 128  # of a Split; over all processes, where there are several. A loader has its own
    lr: float = 0.1  # learning rate of the first step; it falls in a straight line to 0 over the run
    momentum: float = 0.9  # of SGD
    weight_decay: float = 0.0
    clip: float | None = None  # the longest gradient: a longer one is shortened to it
    seed: int = 0  # the order of the examples, the augmentation and dropout; not the initial weights
    device: str = "auto"  # "auto" takes cuda, else mps, else cpu
    # "bfloat16", "float16": matrix products in half the bits, weights and losses still in float32
    precision: str = "float32"
    progress: bool = False  # a line of plain text that counts epochs

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
            object.__setattr__(self, name, int(value))  # NumPy's numbers cannot be stored in a checkpoint
        for name in ("lr", "momentum", "weight_decay", "clip"):
            value = getattr(self, name)
            if name == "clip" and value is None:
                continue
            if not isinstance(value, Real) or isinstance(value, bool):
                raise ValueError(f"{name} must be a number, got {value!r}")
            object.__setattr__(self, name, value if isinstance(value, int) else float(value))
        if not math.isfinite(self.lr) or self.lr <= 0:
            raise ValueError(f"lr must be a finite number above 0, got {self.lr!r}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum!r}")
        if not math.isfinite(self.weight_decay) or self.weight_decay < 0:
            raise ValueError(f"weight_decay must be a finite number of at least 0, got {self.weight_decay!r}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be a number above 0, or None, got {self.clip!r}")
        if self.precision not in ("float32", "bfloat16", "float16"):
            raise ValueError(f'precision must be "float32", "bfloat16" or "float16", got {self.precision!r}')
        pick_device(self.device)  # an unknown name is an error now, not when training starts


@dataclass
class History:
    """What happened in each epoch: one list entry per epoch. Losses in nats, as means over the steps."""

    loss: list[float] = field(default_factory=list)
    soft: list[float] = field(default_factory=list)  # the two terms of a distillation loss;
    hard: list[float] = field(default_factory=list)  # empty when the loss has one term only
    val_loss: list[float] = field(default_factory=list)  # cross-entropy with the labels at T = 1, or the task's own
    val_errors: list[int] = field(default_factory=list)  # empty where labels are no class numbers
    seconds: list[float] = field(default_factory=list)
    teacher_seconds: float = 0.0  # asking the teacher once, before the first epoch
    best_epoch: int | None = None  # which epoch's weights the model has, counted from 1; with keep="best"
    device: str = "cpu"


def falling(progress: float) -> float:
    """The schedule of :func:`fit` where no other is brought: the rate falls in a straight line to 0.

    Args:
        progress: what share of all steps is done, from 0 to 1.
    """
    return 1 - progress


def warmup(share: float = 0.1) -> Callable[[float], float]:
    """A schedule: the rate rises in a straight line from 0 during this share of the run, then falls to 0.

    Raises:
        ValueError: a share outside of (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share!r}")
    return partial(_rise_and_fall, share=share)


def _rise_and_fall(progress: float, share: float) -> float:
    return progress / share if progress < share else (1 - progress) / (1 - share)


def pick_device(name: str = "auto") -> torch.device:
    """The device called ``name``; "auto" takes cuda where there is one, else mps, else the CPU.

    Raises:
        ValueError: an unknown name, or a GPU that is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'device must be "auto", "cpu", "cuda", "mps" or the like, got {name!r}') from error
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(device.type, lambda: True)()
    if not there:
        raise ValueError(f'device {name!r} is not there: this torch sees no such GPU. "auto" takes what there is')
    return device
