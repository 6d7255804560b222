"""Examples of any kind: in memory as a split of inputs and labels, or as batches from somebody's loader."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

Inputs = Tensor | Mapping[str, Tensor] | tuple[Tensor, ...]


@dataclass(frozen=True)
class Split:
    """Some examples in memory, N of them.

    Args:
        inputs: a tensor ``(N, …)`` of any type, or a dictionary of such tensors, as a model takes them by keyword.
        labels: a tensor ``(N, …)``: class numbers (int64), one for each example or each position; 0 and 1 for each of
            many labels, or measured values (float). None where there are none. −100 counts in no loss.

    Raises:
        ValueError: other kinds of data, lengths that differ, pictures in bytes.
    """

    inputs: Tensor | dict[str, Tensor]
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        parts = dict(self.inputs) if isinstance(self.inputs, Mapping) else {"inputs": self.inputs}
        if isinstance(self.inputs, Mapping):
            object.__setattr__(self, "inputs", parts)
        for name, part in parts.items():
            if not isinstance(part, Tensor):
                raise ValueError(
                    f"a Split holds tensors, got {type(part).__name__} as {name}: give tensors, or pass a DataLoader "
                    f"over your data set to fit and distill in place of a Split"
                )
        if not parts:
            raise ValueError("a Split needs inputs, got an empty dictionary")
        if self.labels is not None and not isinstance(self.labels, Tensor):
            raise ValueError(
                f"labels must be a tensor or None, got {type(self.labels).__name__}: use torch.tensor(labels)"
            )
        for name, part in (parts | ({} if self.labels is None else {"labels": self.labels})).items():
            if part.dim() == 0:
                raise ValueError(f"{name} must have a first dimension that counts the examples, got a single number")
            if name != "labels" and part.dtype == torch.uint8 and part.dim() == 4:
                raise ValueError(
                    f"{name} are pictures in bytes (uint8), which no layer takes: give images.float() / 255, or keep "
                    f"the bytes in a DataLoader whose data set converts each picture"
                )
        if len({len(part) for part in parts.values()}) > 1:
            sizes = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
            raise ValueError(f"inputs differ in length: {sizes}")
        if self.labels is not None and len(self) != len(self.labels):
            raise ValueError(f"inputs and labels differ in length: {len(self)} and {len(self.labels)}")

    @property
    def images(self) -> Tensor | dict[str, Tensor]:
        """The inputs, by the name that suits pictures."""
        return self.inputs

    @property
    def device(self) -> torch.device:
        """Where the inputs lie."""
        return first_tensor(self.inputs).device

    def __len__(self) -> int:
        return len(first_tensor(self.inputs))

    def __getitem__(self, index) -> "Split":
        """The examples at ``index``: a slice, a boolean mask, or a tensor of positions."""
        inputs, labels = map_tensors(lambda part: part[index], (self.inputs, self.labels))
        return Split(inputs, labels)

    def to(self, device: str | torch.device) -> "Split":
        """The same examples on another device."""
        inputs, labels = map_tensors(lambda part: part.to(device), (self.inputs, self.labels))
        return Split(inputs, labels)


class Batch(NamedTuple):
    """What a loss is given beside the logits.

    ``index[i]`` is the position of example i in the split, so that stored teacher logits can be looked up; None where
    batches come from a loader that does not say.
    """

    inputs: Inputs
    labels: Tensor | None
    index: Tensor | None

    @property
    def images(self) -> Inputs:
        """The inputs, by the name that suits pictures."""
        return self.inputs


def batches(
    split: Split,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    augment: Callable[..., Any] | None = None,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """One epoch: every example once, in batches of ``batch_size`` (the last one may be smaller).

    Args:
        split: the examples, on any device.
        generator: a CPU generator that shuffles; without one the order is that of the split.
        augment: called as ``augment(images, generator=generator)``, such as ``partial(random_shift, pixels=2)``.
        rank: of this process, among
        processes: that share every batch between them.

    Yields:
        :class:`Batch` ``(inputs, labels, index)``.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
    if augment is not None and generator is None:
        raise ValueError("augment needs a generator: random views without a seed could not be repeated")
    order = torch.arange(len(split)) if generator is None else torch.randperm(len(split), generator=generator)
    for index in order.to(split.device).split(batch_size):
        if processes > 1 and augment is None:
            index = index[rank::processes]
        inputs, labels = map_tensors(lambda part, index=index: part[index], (split.inputs, split.labels))
        batch = Batch(inputs, labels, index)
        if augment is not None:
            batch = batch._replace(inputs=augment(inputs, generator=generator))
            # Every process draws the views of the whole batch, so that they are those that one process would draw.
            if processes > 1:
                batch = map_tensors(lambda part: part[rank::processes], batch)
        yield batch


def as_batch(batch: Any) -> Batch:
    """Inputs and labels of what a loader yields.

    A pair is ``(inputs, labels)``. A dictionary has its labels under "labels" or "label"; the rest are inputs, but for
    an "index", the place of each example among all, where stored answers of a teacher are to be looked up. A tensor
    alone, or a tuple of one, has no labels.

    Raises:
        ValueError: anything else.
    """
    if isinstance(batch, Batch):
        return batch
    if isinstance(batch, Tensor):
        return Batch(batch, None, None)
    if isinstance(batch, Mapping):
        inputs = dict(batch)
        labels = inputs.pop("labels", inputs.pop("label", None))
        return Batch(inputs, labels, inputs.pop("index", None))
    if isinstance(batch, tuple | list) and len(batch) in (1, 2):
        return Batch(batch[0], batch[1] if len(batch) == 2 else None, None)
    found = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
    raise ValueError(
        f"a batch must be (inputs, labels), a dictionary or a tensor, got {found}: pass adapter=, a function of "
        f"(model, batch) that returns (logits, labels)"
    )


def interleave(sources: Sequence[Iterable], lengths: Sequence[int]) -> Iterator[Any]:
    """The entries of some sources, each in its own order, spread evenly: 1 of 10 after every 3 of 30.

    Raises:
        ValueError: a source that gives fewer entries than its length.
    """
    iterators = list(map(iter, sources))
    done = [0] * len(iterators)
    for _ in range(sum(lengths)):
        # The one that is furthest behind its share comes next.
        turn = min(range(len(iterators)), key=lambda place: (done[place] + 0.5) / max(lengths[place], 1e-9))
        done[turn] += 1
        try:
            yield next(iterators[turn])
        except StopIteration:
            raise ValueError(
                f"a source of {lengths[turn]} batches, by its length, gave only {done[turn] - 1}"
            ) from None


def map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same structure with ``change`` done to every tensor in it, through tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(change, part) for name, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(change, part) for part in value))
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(change, part) for part in value)
    return value


def first_tensor(inputs: Inputs) -> Tensor:
    """The tensor, or the first of several: they all have an entry for each example."""
    if isinstance(inputs, Mapping):
        return next(iter(inputs.values()))
    return inputs[0] if isinstance(inputs, tuple | list) else inputs
