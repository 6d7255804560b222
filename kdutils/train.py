"""Training a network on labels, and training a student on a teacher. One loop serves both: :mod:`kdutils.loop`."""

import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoint import check_place, describe, digest
from .config import History, TrainConfig, falling, pick_device
from .data import Batch, Split, as_batch
from .evaluate import mode, model_device, predict_logits
from .forward import Adapter, read_again
from .loop import Loss, Run, precision
from .loop import train as run_loop
from .losses import LossParts, check_soft_weight, kd_loss, unchecked_distillation_loss
from .positions import IGNORED, at_least_float32, check_temperature
from .processes import TrainingError, add_up, check_alike, join_processes, own_device
from .sharpness import check_no_probabilities, warn_if_sharp
from .targets import shared_classes

KEPT_NUMBERS = 2**28  # logits of a teacher that are kept in memory at most: 1 GiB in float32


def hard_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy with the labels, in nats: the loss of ordinary training. Labels of −100 do not count.

    Args:
        logits: ``(…, C)``.
        batch: with labels ``(…)``, int64.
    """
    if batch.labels is None:
        raise ValueError("these examples have no labels: distill them with soft_weight=1, or as unlabelled=")
    if batch.labels.dtype != torch.int64:
        raise ValueError(
            f"labels are {batch.labels.dtype}, no class numbers (int64): pass loss=, a function of (logits, batch), "
            f"such as one with binary_cross_entropy_with_logits or mse_loss"
        )
    return F.cross_entropy(logits.flatten(0, -2), batch.labels.flatten())


def fit(
    model: nn.Module,
    train: Split | Iterable,
    val: Split | Iterable | None,
    config: TrainConfig,
    *,
    loss: Loss = hard_loss,
    augment: Callable[..., Any] | None = None,
    adapter: Adapter | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    schedule: Callable[[float], float] = falling,
    keep: str = "last",
    on_epoch: Callable[[History], None] | None = None,
    checkpoint: str | Path | None = None,
    run_name: str | None = None,
    extend: bool = False,
) -> History:
    """Train ``model`` in place for ``config.epochs`` epochs and report on each.

    The model ends on the training device, every module in the mode in which it came. Under ``torchrun`` the processes
    share each batch, and end with the same weights; the loss has to be a mean over examples or labelled positions then.

    Args:
        model: any network. It is called with a batch's inputs and gives logits ``(…, C)``: see
            :func:`~kdutils.forward.call_model`.
        train: the examples to learn from: a :class:`Split`, or an iterable of batches with a length, such as a
            ``DataLoader``: see :func:`~kdutils.data.as_batch`.
        val: reported on after each epoch, never trained on. None where nothing was held out: nothing is reported.
        config: see :class:`TrainConfig`.
        loss: called as ``loss(logits, batch)``; returns a scalar, or a :class:`LossParts`.
        augment: changes the inputs of each training batch of a Split; see :func:`batches`.
        adapter: called as ``adapter(model, batch)`` for ``(logits, labels)`` where batches or models are of another
            kind; :func:`~kdutils.forward.next_token` is one.
        optimizer: called as ``optimizer(parameters, lr=…, weight_decay=…)``, such as ``torch.optim.AdamW``.
        schedule: called with the share of the steps that are done; its value times ``lr`` is the rate of the next step.
            ``warmup(0.1)`` is one.
        keep: "last", or "best": the weights of the epoch with the fewest validation errors (where errors are not
            counted, the lowest validation loss). That is a choice made on ``val``.
        on_epoch: called with the history after each epoch, for a log of your own.
        checkpoint: a file saved after every epoch. If it is there at the start, training goes on from it, to the
            same result as an uninterrupted run.
        run_name: what to compare a checkpoint by where it cannot compare functions or loaders of yours.
        extend: the checkpoint may be of a run with fewer epochs. The rate then follows the longer schedule from there
            on, so the result is not that of a run that was so long from the start.

    Raises:
        TrainingError: a loss that is nan or infinite, or a checkpoint that cannot be saved: its ``history`` holds the
            epochs before. Under torchrun, another process that ended.
        ValueError: data without examples or of a wrong kind; a checkpoint of another run (other weights, data or
            settings).
    """
    options = _options(augment, adapter, optimizer, schedule, keep, on_epoch, checkpoint, run_name, extend)
    _check_not_empty(train, val)
    device = own_device(pick_device(config.device))
    _check_alike(device, train=train, val=val)
    run = Run([train], val, loss, task_loss=loss, identity={}, **options)
    return run_loop(model, run, config, History(device=str(device)))


def distill(
    student: nn.Module,
    teacher: nn.Module | None,
    train: Split | Iterable,
    val: Split | Iterable | None,
    config: TrainConfig,
    *,
    temperature: float | None = None,
    soft_weight: float = 0.9,
    soft_loss: Callable[..., Tensor] | None = None,
    loss: Loss = hard_loss,
    teacher_logits: Tensor | None = None,
    unlabelled: Split | Iterable | None = None,
    classes: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    augment: Callable[..., Any] | None = None,
    adapter: Adapter | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    schedule: Callable[[float], float] = falling,
    keep: str = "last",
    on_epoch: Callable[[History], None] | None = None,
    checkpoint: str | Path | None = None,
    run_name: str | None = None,
    extend: bool = False,
) -> History:
    """Train ``student`` in place on ``soft_weight · T²·KL(teacher ‖ student) + (1 − soft_weight) · cross-entropy``.

    Where the teacher's answers to a Split can be kept (no augmentation, no adapter, at most 2²⁸ logits), it is asked
    once; otherwise at every step, about the same view of each example that the student sees. It runs in eval mode and
    comes out exactly as it went in. Positions whose label is −100 count in neither term.

    Args:
        student: as for :func:`fit`.
        teacher: likewise; None where ``teacher_logits`` holds its answers.
        train: as for :func:`fit`. Without labels, the soft weight has to be 1.
        val: as for :func:`fit`.
        config: see :class:`TrainConfig`.
        temperature: T > 0, of the soft term; 4 unless said.
        soft_weight: between 0 (labels alone) and 1 (teacher alone).
        soft_loss: another soft term than :func:`kd_loss` at the temperature, called as ``soft_loss(student_logits,
            teacher_logits, mask=mask)``: ``partial(reverse_kd_loss, temperature=1.0)``, :func:`regression_kd_loss` or
            your own. The mask says which positions count, or is None where all do.
        loss: another hard term, called as ``loss(student_logits, batch)``: with class weights or label smoothing, or
            with hints beside.
        teacher_logits: answers stored before, ``(N, …, C)``: row i belongs to example i of ``train``.
        unlabelled: more examples, for the soft term alone; labels that they have are not looked at. Their batches stand
            between those of ``train``, evenly spread; an epoch goes once through both.
        classes: the names of the student's classes and of the teacher's, in the order of their logits. The soft term
            compares those that have the same name; see :func:`shared_classes`.
        augment: as for :func:`fit`, like all that follows.

    Warns where the teacher's soft targets at this temperature are nearly labels (:mod:`kdutils.sharpness`).

    Raises:
        ValueError: also when student and teacher share weights that training changes, or differ in their number of
            classes; when the teacher gives probabilities.

    Source: Hinton, Vinyals & Dean 2015, arXiv 1503.02531.
    """
    if soft_loss is not None and temperature is not None:
        raise ValueError("soft_loss has a temperature of its own: pass partial(soft_loss, temperature=…)")
    temperature = 4.0 if temperature is None else temperature
    check_temperature(temperature)
    check_soft_weight(soft_weight)
    if (teacher is None) == (teacher_logits is None):
        raise ValueError("give either a teacher, or its stored answers as teacher_logits and None as the teacher")
    if unlabelled is not None and teacher is None:
        raise ValueError("unlabelled examples need a teacher to answer them: teacher_logits belong to train alone")
    if unlabelled is not None and adapter is not None:
        raise ValueError("adapter and unlabelled do not go together: an adapter says itself which labels there are")
    if unlabelled is not None and isinstance(train, Split) and train.labels is None:
        raise ValueError("train has no labels either: put all examples into train, with soft_weight=1")
    options = _options(augment, adapter, optimizer, schedule, keep, on_epoch, checkpoint, run_name, extend)
    _check_not_empty(train, *([] if unlabelled is None else [unlabelled]), val)
    sources = [train] if unlabelled is None else [train, _without_labels(unlabelled)]
    if isinstance(train, Split) and train.labels is None and soft_weight < 1:
        raise ValueError(_NO_LABELS.format(soft_weight))
    if teacher is not None:
        _check_nothing_shared(student, teacher)
    elif isinstance(train, Split) and len(teacher_logits) != len(train):
        raise ValueError(f"teacher_logits must have a row for each example, got {len(teacher_logits)} for {len(train)}")
    shared = None if classes is None else shared_classes(*classes)
    identity: dict[str, Any] = {}
    if checkpoint is not None:
        known = {"logits": teacher_logits} if teacher is None else teacher.state_dict()
        identity = {"temperature": temperature, "soft_weight": soft_weight, "teacher": digest(known)}
        identity |= {"classes": repr(classes), "loss": run_name or describe("loss", loss)}
        identity["soft_loss"] = run_name or describe("soft_loss", soft_loss)
    all_count = adapter is None and isinstance(train, Split) and train.labels is not None
    all_count = all_count and not bool((train.labels == IGNORED).any())
    device = own_device(pick_device(config.device))
    history = History(device=str(device))
    _check_alike(device, teacher=teacher, train=train, unlabelled=unlabelled, val=val)

    looked_at: list[bool] = []

    def parts(student_logits: Tensor, batch: Batch) -> LossParts:
        target = answer(batch)
        compared = student_logits
        if shared is not None:
            compared = compared[..., shared.student.to(device)]
            target = target[..., shared.teacher.to(device)]
        if compared.shape != target.shape:
            raise ValueError(_differing(compared.shape, target.shape))
        labels = batch.labels
        if labels is not None and labels.is_floating_point() and soft_loss is None:
            raise ValueError(_NO_CLASSES.format(labels.dtype))
        if labels is None and soft_weight < 1 and unlabelled is None:
            raise ValueError(_NO_LABELS.format(soft_weight))
        if labels is not None and soft_loss is None and loss is hard_loss and shared is None:
            return unchecked_distillation_loss(compared, target, labels, temperature, soft_weight, all_count=all_count)
        mask = labels != IGNORED if labels is not None and labels.shape == compared.shape[:-1] else None
        soft = (soft_loss or partial(kd_loss, temperature=temperature))(compared, target, mask=mask)
        if labels is None:
            return LossParts(soft_weight * soft, soft, torch.full_like(soft, math.nan))
        hard = loss(student_logits, batch)
        return LossParts(soft_weight * soft + (1 - soft_weight) * hard, soft, hard)

    def answer(batch: Batch) -> Tensor:
        kept = answers[1 if batch.labels is None and len(sources) > 1 else 0]
        if kept is None:
            with torch.no_grad(), precision(config.precision, device):
                logits = at_least_float32(read_again(teacher, batch, adapter))
            if not looked_at:
                look(logits, batch.labels)
            return logits
        if batch.index is None:
            raise ValueError(
                "stored teacher_logits are looked up by the place of each example, which this loader does not say: "
                'let its batches be dictionaries with an "index"'
            )
        return kept[batch.index.to(device)]

    def look(logits: Tensor, labels: Tensor | None) -> None:
        looked_at.append(True)
        if soft_loss is not None:  # it may take other things than logits
            return
        rows = logits.flatten(0, -2)
        if labels is not None and labels.shape == logits.shape[:-1]:
            rows = rows[labels.to(device).flatten() != IGNORED]
        rows = rows[:: max(1, len(rows) // 2000)]
        check_no_probabilities(rows)
        warn_if_sharp(rows, temperature)

    with _moved(teacher, device):
        start = time.perf_counter()
        if teacher is None:
            answers = [teacher_logits.to(device)]
        else:
            once = augment is None and adapter is None
            answers = [_ask_once(teacher, source, device) if once else None for source in sources]
        if answers[0] is not None:
            look(answers[0], getattr(train, "labels", None))
        history.teacher_seconds = time.perf_counter() - start
        run = Run(sources, val, parts, task_loss=loss, identity=identity, **options)
        return run_loop(student, run, config, history)


def cache_logits(teacher: nn.Module, inputs: Tensor | dict[str, Tensor]) -> Tensor:
    """The teacher's logits ``(N, …, C)``: row i belongs to example i, whatever order the batches come in later.

    Only valid while the student sees the very inputs that were passed here: no augmentation.

    Raises:
        TrainingError: a logit that is nan or infinite.
    """
    logits = predict_logits(teacher, inputs)
    if not torch.isfinite(logits).all():
        raise TrainingError("the teacher gives logits that are nan or infinite: a student cannot learn from it")
    return logits


def freeze(model: nn.Module) -> nn.Module:
    """Eval mode and ``requires_grad=False`` everywhere: for a teacher in a training loop of your own.

    :func:`distill` needs no frozen teacher. :func:`fit` puts every module of *its* model into training mode, frozen
    parts too.
    """
    return model.eval().requires_grad_(False)


_NO_LABELS = "there are examples without labels, so the soft weight has to be 1 (or pass them as unlabelled=), got {!r}"


_NO_CLASSES = (
    "labels are {}, no class numbers, and the usual soft term is a softmax over classes: say which one belongs here, "
    "with soft_loss=partial(kdutils.binary_kd_loss, temperature=…) for many labels, kdutils.regression_kd_loss for "
    "numbers, or partial(kdutils.kd_loss, temperature=…) for mixtures of classes"
)


def _options(augment, adapter, optimizer, schedule, keep, on_epoch, checkpoint, run_name, extend) -> dict[str, Any]:
    """The arguments that fit and distill have in common, looked at."""
    if keep not in ("last", "best"):
        raise ValueError(f'keep must be "last" or "best", got {keep!r}')
    if isinstance(optimizer, torch.optim.Optimizer):
        name = type(optimizer).__name__
        raise ValueError(
            f"optimizer must be a class or a function of (parameters, lr, weight_decay), got a finished {name}: pass "
            f"torch.optim.{name}, or a partial of it"
        )
    if checkpoint is not None:
        check_place(checkpoint)
    options = {"augment": augment, "adapter": adapter, "optimizer": optimizer, "schedule": schedule, "keep": keep}
    return options | {"on_epoch": on_epoch, "checkpoint": checkpoint, "run_name": run_name, "extend": extend}


class _Unlabelled:
    """The batches of a loader, without such labels as they have."""

    def __init__(self, loader: Iterable) -> None:
        self.loader = loader
        self.sampler, self.generator = (getattr(loader, name, None) for name in ("sampler", "generator"))

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return (as_batch(batch)._replace(labels=None) for batch in self.loader)


def _without_labels(data: Split | Iterable) -> Split | Iterable:
    return Split(data.inputs) if isinstance(data, Split) else _Unlabelled(data)


def _ask_once(teacher: nn.Module, source: Split | Iterable, device: torch.device) -> Tensor | None:
    """The teacher's logits for all of a Split; None where they are too many to keep, or for a loader."""
    if not isinstance(source, Split):
        return None
    one = predict_logits(teacher, source[:1].inputs)
    if one.numel() * len(source) > KEPT_NUMBERS:
        return None
    processes = join_processes(device)
    source = source.to(device)
    if processes.count == 1:
        return cache_logits(teacher, source.inputs)
    own = slice(processes.rank, None, processes.count)
    logits = one.new_zeros(len(source), *one.shape[1:], device=device)
    logits[own] = cache_logits(teacher, source[own].inputs)
    return add_up(logits, processes)


@contextmanager
def _moved(teacher: nn.Module | None, device: torch.device) -> Iterator[None]:
    """The teacher on the device and in eval mode; afterwards it is as it was."""
    if teacher is None:
        yield
        return
    before = model_device(teacher)
    try:
        if before != device:  # a quantised or a spread-out teacher cannot be moved, and need not be
            teacher.to(device)
        with mode(teacher, training=False):
            yield
    finally:
        if before != device:
            teacher.to(before)


def _differing(student: torch.Size, teacher: torch.Size) -> str:
    if student[:-1] == teacher[:-1]:
        return (
            f"student and teacher must have the same classes, got {student[-1]} and {teacher[-1]}: say by name which "
            f"belong together, with classes=(names of the student's, names of the teacher's)"
        )
    return f"student and teacher answer in different shapes, {tuple(student)} and {tuple(teacher)}"


def _check_not_empty(*parts: Split | Iterable | None) -> None:
    for name, data in zip(("train", "val") if len(parts) == 2 else ("train", "unlabelled", "val"), parts, strict=True):
        if data is None and name == "val":
            continue
        if isinstance(data, torch.utils.data.Dataset):
            raise ValueError(
                f"{name} is a data set of single examples ({type(data).__name__}): put it into a loader, "
                f"DataLoader({name}, batch_size=…, shuffle={name != 'val'})"
            )
        if not isinstance(data, Iterable | Split) or not hasattr(data, "__len__"):
            raise ValueError(
                f"{name} must be a Split, or an iterable of batches with a length such as a DataLoader, got "
                f"{type(data).__name__}"
            )
        if len(data) == 0:
            hint = ": pass None where nothing was held out" if name == "val" else ""
            raise ValueError(f"{name} must hold at least one example, got none{hint}")


def _check_alike(device: torch.device, **parts: nn.Module | Split | Iterable | None) -> None:
    """Raise ValueError where the processes that train together brought different examples or teachers."""
    processes = join_processes(device)
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            check_alike(name, [*part.parameters(), *part.buffers()], processes)
        elif isinstance(part, Split):
            inputs = part.inputs.values() if isinstance(part.inputs, dict) else [part.inputs]
            check_alike(name, [*inputs, *([] if part.labels is None else [part.labels])], processes)


def _check_nothing_shared(student: nn.Module, teacher: nn.Module) -> None:
    changing = [parameter for parameter in student.parameters() if parameter.requires_grad] + list(student.buffers())
    kept = {id(tensor) for tensor in (*teacher.parameters(), *teacher.buffers())}
    if any(id(tensor) in kept for tensor in changing):
        raise ValueError("student and teacher share weights, so training would change both: copy the teacher first")
