"""Training a network on labels, and training a student on a teacher. One loop serves both."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.std import tqdm

from .checkpoint import digest, load_checkpoint, run_identity, save_checkpoint
from .data import Batch, Split, batches
from .evaluate import mode, model_device, predict_logits
from .losses import LossParts, check_soft_weight, check_temperature, unchecked_distillation_loss

Loss = Callable[[Tensor, Batch], Tensor | LossParts]


class TrainingError(RuntimeError):
    """Training cannot go on. The message says where it stopped and what to look at."""


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and from which seed. The optimizer is SGD with Nesterov momentum."""

    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.1  # learning rate of the first step; it falls in a straight line to 0 over the run
    momentum: float = 0.9
    weight_decay: float = 0.0
    seed: int = 0  # the order of the examples, the augmentation and dropout; not the initial weights
    device: str = "auto"  # "auto" takes cuda, else mps, else cpu
    precision: str = "float32"  # "bfloat16": matrix products in half the bits, weights and losses still in float32
    progress: bool = False  # a line of plain text that counts epochs

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        for name in ("lr", "momentum", "weight_decay"):
            if not isinstance(getattr(self, name), int | float):
                raise ValueError(f"{name} must be a number, got {getattr(self, name)!r}")
        if not math.isfinite(self.lr) or self.lr <= 0:
            raise ValueError(f"lr must be a finite number above 0, got {self.lr!r}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum!r}")
        if not math.isfinite(self.weight_decay) or self.weight_decay < 0:
            raise ValueError(f"weight_decay must be a finite number of at least 0, got {self.weight_decay!r}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f'precision must be "float32" or "bfloat16", got {self.precision!r}')
        pick_device(self.device)  # an unknown name is an error now, not when training starts


@dataclass
class History:
    """What happened in each epoch: one list entry per epoch. Losses in nats, as means over the steps."""

    loss: list[float] = field(default_factory=list)
    soft: list[float] = field(default_factory=list)  # the two terms of a distillation loss;
    hard: list[float] = field(default_factory=list)  # empty when the loss has one term only
    val_loss: list[float] = field(default_factory=list)  # cross-entropy with the labels at T = 1
    val_errors: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    device: str = "cpu"


def hard_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy with the labels, in nats: the loss of ordinary training."""
    return F.cross_entropy(logits, batch.labels)


def fit(
    model: nn.Module,
    train: Split,
    val: Split | None,
    config: TrainConfig,
    *,
    loss: Loss = hard_loss,
    augment: Callable[..., Tensor] | None = None,
    checkpoint: str | Path | None = None,
) -> History:
    """Train ``model`` in place for ``config.epochs`` epochs and report on each.

    The last epoch's weights are kept: picking the best epoch is a choice, and it belongs to the caller. The model
    ends on the training device, every module in the mode in which it came.

    Args:
        model: images ``(N, 1, 28, 28)`` in, logits ``(N, C)`` out.
        train: the examples to learn from.
        val: reported on after each epoch, never trained on. None where nothing was held out: nothing is reported.
        config: see :class:`TrainConfig`.
        loss: called as ``loss(logits, batch)``; returns a scalar, or a :class:`LossParts`.
        augment: changes the images of each training batch; see :func:`batches`.
        checkpoint: a file saved after every epoch. If it is there at the start, training goes on from it, to the
            same result as an uninterrupted run.

    Raises:
        TrainingError: a loss that is nan or infinite; a checkpoint that cannot be saved.
        ValueError: a split without examples; a checkpoint of another run (other weights, data or settings).
    """
    _check_not_empty(train, val)
    return _run(model, train, val, config, loss, augment, checkpoint, identity={})


def distill(
    student: nn.Module,
    teacher: nn.Module,
    train: Split,
    val: Split | None,
    config: TrainConfig,
    *,
    temperature: float = 4.0,
    soft_weight: float = 0.9,
    augment: Callable[..., Tensor] | None = None,
    checkpoint: str | Path | None = None,
) -> History:
    """Train ``student`` in place on ``soft_weight · T²·KL(teacher ‖ student) + (1 − soft_weight) · cross-entropy``.

    Without augmentation the teacher's logits are computed once; with it, the teacher sees the same view of each
    image as the student. The teacher runs in eval mode and comes out exactly as it went in.

    Args, errors and result as for :func:`fit`; temperature and soft_weight as for :func:`distillation_loss`.

    Raises:
        ValueError: also when student and teacher share weights that training changes, or differ in their number of
            classes.

    Source: Hinton, Vinyals & Dean 2015, arXiv 1503.02531.
    """
    check_temperature(temperature)
    check_soft_weight(soft_weight)
    _check_not_empty(train, val)
    _check_nothing_shared(student, teacher)
    _check_same_classes(student, teacher, train)
    identity = {"temperature": temperature, "soft_weight": soft_weight, "teacher": digest(teacher.state_dict())}
    device, teacher_device = pick_device(config.device), model_device(teacher)
    try:
        teacher.to(device)
        cached = cache_logits(teacher, train.images.to(device)) if augment is None else None

        def loss(student_logits: Tensor, batch: Batch) -> LossParts:
            if cached is not None:
                teacher_logits = cached[batch.index]
            else:
                with torch.no_grad():
                    teacher_logits = _forward(teacher, batch.images, config.precision)
            return unchecked_distillation_loss(student_logits, teacher_logits, batch.labels, temperature, soft_weight)

        with mode(teacher, training=False):
            return _run(student, train, val, config, loss, augment, checkpoint, identity)
    finally:
        teacher.to(teacher_device)


def cache_logits(teacher: nn.Module, images: Tensor) -> Tensor:
    """The teacher's logits ``(N, C)``: row i belongs to example i, whatever order the batches come in later.

    Only valid while the student sees the very images that were passed here: no augmentation.

    Raises:
        TrainingError: a logit that is nan or infinite.
    """
    logits = predict_logits(teacher, images)
    if not torch.isfinite(logits).all():
        raise TrainingError("the teacher gives logits that are nan or infinite: a student cannot learn from it")
    return logits


def freeze(model: nn.Module) -> nn.Module:
    """Eval mode and ``requires_grad=False`` everywhere: for a teacher in a training loop of your own.

    :func:`distill` needs no frozen teacher. :func:`fit` puts every module of *its* model into training mode, frozen
    parts too.
    """
    return model.eval().requires_grad_(False)


def pick_device(name: str = "auto") -> torch.device:
    """The device called ``name``; "auto" takes cuda where there is one, else mps, else the CPU."""
    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise ValueError(f'device must be "auto", "cpu", "cuda", "mps" or the like, got {name!r}') from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _run(model, train, val, config, loss, augment, checkpoint, identity) -> History:
    device = pick_device(config.device)
    if checkpoint is not None:
        identity = identity | run_identity(model, train, config, loss, augment)
    model.to(device)
    train, val = train.to(device), None if val is None else val.to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
    )
    shuffle = torch.Generator().manual_seed(config.seed)
    history = History(device=str(device))
    steps = math.ceil(len(train) / config.batch_size)
    with mode(model, training=True), _own_random_state(device):
        torch.manual_seed(config.seed)  # for dropout
        if checkpoint is not None and Path(checkpoint).exists():
            history = History(**load_checkpoint(checkpoint, identity, model, optimizer, shuffle))
        epochs = range(len(history.loss), config.epochs)
        for epoch in tqdm(epochs, unit="epoch", disable=not config.progress, file=sys.stderr):
            start = time.perf_counter()
            for step, batch in enumerate(batches(train, config.batch_size, generator=shuffle, augment=augment)):
                for group in optimizer.param_groups:
                    group["lr"] = config.lr * (1 - (epoch * steps + step) / (config.epochs * steps))
                parts = loss(_forward(model, batch.images, config.precision), batch)
                optimizer.zero_grad()
                (parts.total if isinstance(parts, LossParts) else parts).backward()
                optimizer.step()
                values = torch.stack(parts if isinstance(parts, LossParts) else (parts,)).detach()
                if step == 0:
                    terms = values.new_empty(steps, len(values))
                # Kept on the device: reading a value at each step would make a GPU wait. Kept in one tensor: many
                # small ones between the large ones of each step leave holes in memory.
                terms[step] = values
            _report(history, terms, model, val, epoch)
            history.seconds.append(time.perf_counter() - start)
            if checkpoint is not None:
                _save(checkpoint, identity, model, optimizer, shuffle, history)
    return history


def _forward(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    if precision == "float32":
        return model(images)
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        return model(images).float()


def _save(path, identity, model, optimizer, shuffle, history) -> None:
    try:
        save_checkpoint(path, identity, model, optimizer, shuffle, asdict(history))
    except OSError as error:
        raise TrainingError(
            f"could not save epoch {len(history.loss)} to {path}: {error}. The file of the epoch before, if there is "
            f"one, is whole: make room and run again to go on from it"
        ) from error


def _report(history: History, terms: Tensor, model: nn.Module, val: Split | None, epoch: int) -> None:
    """Add an epoch to the history. ``terms`` is ``(steps, 1)``, or ``(steps, 3)``: total, soft, hard."""
    finite = torch.isfinite(terms).all(dim=1)
    if not finite.all():
        step = int((~finite).nonzero()[0])
        raise TrainingError(
            f"the loss became {terms[step, 0].item()} in epoch {epoch + 1}, step {step + 1} of {len(terms)}: "
            f"lower lr, or look at the inputs of that step"
        )
    for name, value in zip(("loss", "soft", "hard"), terms.mean(dim=0).tolist(), strict=False):
        getattr(history, name).append(value)
    if val is None:
        if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
            raise TrainingError(f"the weights became nan or infinite at the end of epoch {epoch + 1}: lower lr")
        return
    logits = predict_logits(model, val.images)
    if not torch.isfinite(logits).all():
        raise TrainingError(f"the logits became nan or infinite at the end of epoch {epoch + 1}: lower lr")
    history.val_loss.append(F.cross_entropy(logits, val.labels).item())
    history.val_errors.append(int((logits.argmax(dim=-1) != val.labels).sum()))


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    # The caller's random numbers go on after training as if it had not happened.
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        yield


def _check_not_empty(train: Split, val: Split | None) -> None:
    if len(train) == 0:
        raise ValueError("train must hold at least one example, got none")
    if val is not None and len(val) == 0:
        raise ValueError("val must hold at least one example, got none: pass None where nothing was held out")


def _check_nothing_shared(student: nn.Module, teacher: nn.Module) -> None:
    changing = [parameter for parameter in student.parameters() if parameter.requires_grad] + list(student.buffers())
    kept = {id(tensor) for tensor in (*teacher.parameters(), *teacher.buffers())}
    if any(id(tensor) in kept for tensor in changing):
        raise ValueError("student and teacher share weights, so training would change both: copy the teacher first")


def _check_same_classes(student: nn.Module, teacher: nn.Module, split: Split) -> None:
    classes = [predict_logits(model, split.images[:1]).shape[-1] for model in (student, teacher)]
    if classes[0] != classes[1]:
        raise ValueError(f"student and teacher must have the same classes, got {classes[0]} and {classes[1]}")
