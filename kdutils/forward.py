"""From a batch to logits: how a model of any kind is called, and what of its answer counts."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from .data import Batch, Inputs, as_batch, map_tensors

Adapter = Callable[[nn.Module, Any], tuple[Tensor, Tensor | None]]


def call_model(model: nn.Module, inputs: Inputs) -> Tensor:
    """The logits that a model gives for ``inputs``.

    Args:
        model: called as ``model(tensor)``, ``model(**dictionary)`` or ``model(*tuple)``, by what the inputs are; a
            dictionary of one is given without its name. Fractions are brought to the type of the model's weights.
        inputs: a tensor, a dictionary or a tuple of tensors.

    Returns:
        The model's answer if it is a tensor; else its ``logits``, by that name; else the first entry of a tuple.

    Raises:
        TypeError: an answer without logits.
    """
    output = invoke(model, in_its_type(model, inputs))
    logits = output
    if isinstance(output, Mapping) and "logits" in output:
        logits = output["logits"]
    elif hasattr(output, "logits"):
        logits = output.logits
    elif isinstance(output, tuple | list) and output:
        logits = output[0]
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"{type(model).__name__} returned {type(output).__name__}, in which there are no logits to be found: pass "
            f"adapter=, a function of (model, batch) that returns (logits, labels)"
        )
    return logits


def invoke(model: nn.Module, inputs: Inputs) -> Any:
    """All that a model returns for its inputs, given by name, by place or alone."""
    if isinstance(inputs, Mapping) and len(inputs) == 1:
        return model(*inputs.values())  # whatever its name is: "image" of a data set is "x" of a network
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def in_its_type(model: nn.Module, inputs: Inputs) -> Inputs:
    """The inputs with fractions in the type of the model's weights; whole numbers stay what they are."""
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), None)
    if dtype is None:
        return inputs
    return map_tensors(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, inputs)


def read(model: nn.Module, batch: Any, adapter: Adapter | None = None) -> tuple[Tensor, Batch]:
    """The model's logits for a batch of any kind, and the batch with its labels where they are looked for.

    Args:
        model: any network.
        batch: what a :class:`Split` or a loader yields, on the model's device.
        adapter: called as ``adapter(model, batch)`` for ``(logits, labels)``; without one, :func:`as_batch` and
            :func:`call_model` say what is what.
    """
    if adapter is None:
        batch = as_batch(batch)
        return call_model(model, batch.inputs), batch
    logits, labels = adapter(model, batch)
    if isinstance(batch, Batch):
        return logits, batch._replace(labels=labels)
    return logits, Batch(batch, labels, None)


def read_again(model: nn.Module, batch: Batch, adapter: Adapter | None = None) -> Tensor:
    """Another model's logits for a batch that :func:`read` returned."""
    if adapter is None:
        return call_model(model, batch.inputs)
    return adapter(model, batch if batch.index is not None else batch.inputs)[0]


def next_token(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """An adapter for causal language models: the logits at position i answer for the token at i + 1.

    Args:
        model: token numbers ``(B, L)`` in, logits ``(B, L, V)`` out.
        batch: a dictionary with ``labels`` ``(B, L)``, as Hugging Face writes them: the tokens themselves, −100 where
            nothing is to be learnt (padding, prompt).

    Returns:
        Logits ``(B, L − 1, V)`` and the labels ``(B, L − 1)`` that belong to them.
    """
    batch = as_batch(batch)
    return call_model(model, batch.inputs)[:, :-1], batch.labels[:, 1:]
