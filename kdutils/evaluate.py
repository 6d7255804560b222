"""Measuring a trained network: errors, probabilities, calibration, agreement, intervals."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from .data import Batch, Split, batches, first_tensor, map_tensors
from .forward import Adapter, call_model, read
from .positions import IGNORED, check_label_values, check_labels
from .processes import ALONE, Processes, add_up


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """The model in training or eval mode; afterwards every module's own mode is as it was."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


def model_device(model: nn.Module) -> torch.device:
    """Where the model's parameters live; the CPU for a model that has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def predict_logits(model: nn.Module, inputs: Tensor | dict[str, Tensor], batch_size: int = 250) -> Tensor:
    """Logits ``(N, …, C)`` of ``inputs`` ``(N, …)``, in eval mode and without gradients.

    The model keeps its device and its mode. The logits come back on the device of ``inputs``, in one tensor: for a
    language model that is N·L·V numbers.

    Args:
        model: any network that :func:`~kdutils.forward.call_model` can call.
        inputs: a tensor, or a dictionary of tensors.
        batch_size: examples in one call of the model. Few, so that what its layers compute stays small.
    """
    count = len(first_tensor(inputs))
    if count == 0:
        raise ValueError("inputs must hold at least one example, got none")
    here = first_tensor(inputs).device
    there = model_device(model)
    with mode(model, training=False), torch.no_grad():
        for start in range(0, count, batch_size):
            some = slice(start, start + batch_size)
            part = call_model(model, map_tensors(lambda tensor, some=some: tensor[some].to(there), inputs))
            if start == 0:  # one tensor for all: many parts, kept between large activations, leave holes in memory
                logits = part.new_empty(count, *part.shape[1:], device=here)
            logits[some] = part
    return logits


class Score(NamedTuple):
    """How a model does on some examples. ``errors`` and ``loss`` are sums over the ``count`` positions that count."""

    errors: int | None  # None where labels are no class numbers
    loss: float  # in nats for classes
    count: int


def score(
    model: nn.Module,
    data: Split | Iterable,
    *,
    loss: Callable[[Tensor, Batch], Tensor] | None = None,
    adapter: Adapter | None = None,
    processes: Processes = ALONE,
) -> Score:
    """Errors and loss over a :class:`Split`, or over the batches of a loader, in eval mode.

    Args:
        model: gives logits ``(…, C)``.
        data: with labels. Class numbers ``(…)`` are compared with the largest logit; −100 does not count.
        loss: for labels that are no class numbers: called as ``loss(logits, batch)``, a mean over the examples.
        adapter: see :func:`~kdutils.forward.read`.
        processes: that share the batches between them, and each get the score over all.

    Raises:
        ValueError: data without labels, or labels that do not go with the logits.
    """
    device = model_device(model)
    source = batches(data, 1000) if isinstance(data, Split) else data
    errors, total, count, classes = 0, 0.0, 0, False
    with mode(model, training=False), torch.no_grad():
        for batch in itertools.islice(source, processes.rank, None, processes.count):
            logits, batch = read(model, map_tensors(lambda tensor: tensor.to(device), batch), adapter)
            if batch.labels is None:
                raise ValueError("these examples have no labels, so there is nothing to compare the answers with")
            classes = batch.labels.dtype == torch.int64
            if classes:
                check_labels(batch.labels, logits)
                counted = batch.labels != IGNORED
                if counted.any():
                    check_label_values(batch.labels[counted], logits.shape[-1])
                errors += int(((logits.argmax(dim=-1) != batch.labels) & counted).sum())
                rows = logits.reshape(-1, logits.shape[-1])
                total += F.cross_entropy(rows.float(), batch.labels.reshape(-1), reduction="sum").item()
                count += int(counted.sum())
            elif loss is None:
                raise ValueError(f"labels are {batch.labels.dtype}, no class numbers: there are no errors to count")
            else:
                total += float(loss(logits, batch)) * len(batch.labels)
                count += len(batch.labels)
    # A process may have had no batch at all.
    sums = add_up(torch.tensor([total, count, errors, classes], dtype=torch.float64), processes).tolist()
    total, count, errors, classes = sums[0], *map(int, sums[1:])
    if count == 0:
        raise ValueError("there is no label to compare with: no examples, or all of them are -100")
    return Score(errors if classes else None, total, count)


def count_errors(model: nn.Module, data: Split | Iterable, *, adapter: Adapter | None = None) -> int:
    """How many examples of a :class:`Split`, or of a loader's batches, the model gets wrong.

    Labels ``(N, …)`` for each position are counted position by position; −100 is no error.
    """
    return score(model, data, adapter=adapter).errors


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of rows of ``logits`` ``(N, C)`` whose largest entry is at the label; between 0 and 1."""
    _check_rows(logits, labels)
    return float((logits.argmax(dim=-1) == labels).double().mean())


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Mean of ``−log softmax(logits)[label]`` over the examples, in nats: cross-entropy at T = 1."""
    _check_rows(logits, labels)
    return float(F.cross_entropy(logits.double(), labels))


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """How far confidence is from accuracy: the gap ``|accuracy − confidence|`` in bins of equal width, averaged
    with the bins' shares of the examples. 0 is perfect, 1 the worst.

    Source: Guo et al. 2017, arXiv 1706.04599, section 2.
    """
    _check_rows(logits, labels)
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins must be a whole number of at least 1, got {bins!r}")
    confidence, predicted = torch.softmax(logits.double(), dim=-1).max(dim=-1)
    correct = (predicted == labels).double()
    # Bin k holds confidences in (k/bins, (k+1)/bins]; nothing is ever exactly 0.
    which = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = torch.zeros(bins, dtype=torch.float64, device=logits.device).index_add_(0, which, correct - confidence)
    return float(gap.abs().sum() / len(labels))


def agreement(logits_a: Tensor, logits_b: Tensor) -> float:
    """The share of examples on which two networks name the same class, right or wrong: fidelity, 0 to 1."""
    if logits_a.shape != logits_b.shape:
        raise ValueError(
            f"logits_a and logits_b must have the same shape, got {tuple(logits_a.shape)} and {tuple(logits_b.shape)}"
        )
    return float((logits_a.argmax(dim=-1) == logits_b.argmax(dim=-1)).double().mean())


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and Student's t confidence interval of independent measurements, such as one error count per seed.

    For a paired comparison pass the differences, seed by seed: an interval that leaves 0 out is evidence of a gap.

    Raises:
        ValueError: fewer than two values (one run says nothing about spread), or values that are not finite.
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise ValueError(f"values must hold at least two numbers: one run has no spread, got {numbers.tolist()!r}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"values must be finite, got {numbers.tolist()!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}")
    mean = float(numbers.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(numbers) - 1) * stats.sem(numbers))
    return Interval(mean, mean - half, mean + half)


def paired_p_value(differences: Sequence[float]) -> float:
    """Student's t test, two-sided: how often differences this far from 0 would come by luck if their mean were 0.

    Args:
        differences: one for each pair, such as the errors that two students of one seed differ by.

    Raises:
        ValueError: as for :func:`mean_interval`.
    """
    mean = mean_interval(differences).mean
    spread = float(stats.sem(differences))
    if spread == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / spread, len(differences) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, corrected together so that one false alarm among all is as rare as they say.

    The smallest is multiplied by their number m, the next by m − 1, and so on; none becomes smaller than the one before
    it, or larger than 1. From Holm 1979, *A simple sequentially rejective multiple test procedure*.

    Raises:
        ValueError: none at all, or numbers outside of [0, 1].
    """
    numbers = np.asarray(p_values, dtype=float)
    if numbers.ndim != 1 or not len(numbers) or not ((numbers >= 0) & (numbers <= 1)).all():
        raise ValueError(f"p_values must be numbers between 0 and 1, at least one, got {numbers.tolist()!r}")
    order = np.argsort(numbers)
    corrected = np.empty(len(numbers))
    corrected[order] = np.minimum(np.maximum.accumulate(numbers[order] * np.arange(len(numbers), 0, -1)), 1)
    return corrected.tolist()


def _check_rows(logits: Tensor, labels: Tensor) -> None:
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"need logits (N, C) and labels (N,) with N ≥ 1, got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
