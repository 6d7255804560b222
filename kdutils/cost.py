"""What a network costs: parameters to store, multiply–adds to compute, seconds to wait."""

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .data import Inputs, map_tensors
from .evaluate import mode, model_device
from .forward import in_its_type, invoke

# Products of int8 matrices, as torchao's quantised layers use them: 2·m·k·n operations, as for floats.
BYTE_PRODUCTS = {torch.ops.aten._int_mm: lambda a, b, *_, **__: 2 * a[0] * a[1] * b[1]}


def count_parameters(model: nn.Module) -> int:
    """How many numbers the model learns: the sizes of all its parameters, added up; shared ones count once.

    A quantised network has as many as before it was quantised, each in fewer bits.

    Raises:
        ValueError: a quantised layer that does not show its weights, such as a recurrent one.
    """
    return sum(tensor.numel() for tensor in [*model.parameters(), *_packed_weights(model)])


def count_multiply_adds(
    model: nn.Module, image_shape: tuple[int, ...] = (1, 28, 28), *, example: Inputs | None = None
) -> int:
    """Multiply–adds for one forward pass, as PyTorch's own counter sees them: matrix products and convolutions.

    Biases, activations, pooling and the looking up of embeddings are not counted. Attention is counted whole, masked
    places included.

    Args:
        model: any network.
        image_shape: ``(channels, H, W)`` of one image of zeros that the model is given.
        example: what the model is given in its place: a tensor, a dictionary of tensors (keywords) or a tuple, with the
            dimension of the batch, such as ``split.inputs[:1]``. What it costs is counted as a whole, so a batch of two
            costs twice as much as one example.

    Raises:
        ValueError: the model does not take such an image, or is quantised.
    """
    if _packed_weights(model):
        raise ValueError("the products of quantised layers are not seen: count those of the network before, as many")
    inputs = _placed(model, torch.zeros(1, *image_shape) if example is None else example)
    with ExitStack() as plain:
        # PyTorch has layers and fused kernels whose products its counter does not see, and counts them as 0. Without
        # these shortcuts the same layers are made of products that it does see.
        plain.enter_context(warnings.catch_warnings(action="ignore"))
        plain.enter_context(sdpa_kernel(SDPBackend.MATH))
        plain.enter_context(torch.backends.mkldnn.flags(enabled=False))
        plain.enter_context(torch.backends.cudnn.flags(enabled=False))
        plain.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        plain.enter_context(mode(model, training=False))
        plain.enter_context(torch.no_grad())
        counter = plain.enter_context(FlopCounterMode(display=False, custom_mapping=BYTE_PRODUCTS))
        try:
            invoke(model, inputs)
        except Exception as error:
            if example is not None:
                raise
            raise ValueError(
                f"{type(model).__name__} does not take an image of {tuple(image_shape)} (channels, H, W): pass "
                f"image_shape=, or example=, an input of your own, such as split.inputs[:1]. ({error})"
            ) from error
    # The counter reports floating-point operations: one multiply–add is two of them.
    return counter.get_total_flops() // 2


class Latency(NamedTuple):
    """Seconds for one call: the median, and the 10th and 90th percentiles."""

    median: float
    low: float
    high: float


def latency(model: Callable, inputs: Any, *, repeats: int = 50, warmup: int = 5) -> Latency:
    """Seconds that one forward pass over ``inputs`` takes, data already in place, no gradients.

    Pass a single example for the delay of one answer, a large batch for throughput. The first ``warmup`` calls are
    not counted.

    Args:
        model: a network, which is put into eval mode and given the inputs on its device and in its precision, a
            dictionary as keywords; or any function, which is called with the inputs as they are:
            ``lambda feed: session.run(None, feed)`` for a session of ONNX Runtime.
        inputs: for a network a tensor, a dictionary or a tuple of tensors; for a function what it takes.
        repeats: calls that count.
        warmup: calls before them.

    Raises:
        ValueError: fewer than one repeat, or a negative warmup.
        TypeError: something that cannot be called.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"need repeats of at least 1 and warmup of at least 0, got {repeats!r} and {warmup!r}")
    if not callable(model):
        raise TypeError(
            f"model must be a network or a function, got {type(model).__name__}: wrap it in one, such as "
            f"lambda feed: session.run(None, feed) for a session of ONNX Runtime"
        )
    device, call = _accelerator(), model
    with ExitStack() as inference:
        inference.enter_context(torch.no_grad())
        if isinstance(model, nn.Module):
            device, call, inputs = model_device(model), partial(invoke, model), _placed(model, inputs)
            inference.enter_context(mode(model, training=False))
        seconds = []
        for _ in range(warmup + repeats):
            _wait_for(device)
            start = time.perf_counter()
            call(inputs)
            _wait_for(device)
            seconds.append(time.perf_counter() - start)
    low, median, high = np.quantile(seconds[warmup:], [0.1, 0.5, 0.9])
    return Latency(float(median), float(low), float(high))


def _placed(model: nn.Module, inputs: Inputs) -> Inputs:
    """The inputs on the model's device, fractions among them in the type of its weights."""
    device = model_device(model)
    return in_its_type(model, map_tensors(lambda tensor: tensor.to(device), inputs))


def _accelerator() -> torch.device:
    """Where a function may compute, since it does not say: the GPU, if this process uses one."""
    if torch.cuda.is_initialized():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _wait_for(device: torch.device) -> None:
    # A GPU returns before it has finished: without this the clock would measure the launch alone.
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _packed_weights(model: nn.Module) -> list[Tensor]:
    """Weights and biases that ``torch.ao.quantization`` has packed away, where ``parameters()`` does not see them."""
    found = []
    for name, module in model.named_modules():
        scripted = isinstance(module, torch.jit.ScriptModule)
        packed = [value for value in vars(module).values() if isinstance(value, torch.ScriptObject) and not scripted]
        if any(not hasattr(value, "unpack") for value in packed) or (scripted and "Packed" in module.original_name):
            raise ValueError(
                f"{name or 'the model'} ({type(module).__name__}) holds quantised weights that cannot be looked into: "
                f"ask the network as it was before it was quantised"
            )
        for value in packed:
            weights = value.unpack()
            found += [part for part in (weights if isinstance(weights, tuple) else (weights,)) if part is not None]
    return found
