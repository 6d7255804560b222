"""Looking into somebody's training step without leaving a trace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .evaluate import model_device


class WrongForm(Exception):
    """Networks or a loss that cannot be looked at. The message says why."""


@contextmanager
def recorded(model: nn.Module, calls: list) -> Iterator[None]:
    """Note for each call what the model was given, what it answered, and its mode."""

    def note(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if not inputs or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor) or output.dim() != 2:
            raise WrongForm(
                f"{type(module).__name__} must be called as model(images) and return one tensor of logits (N, C), got "
                f"{type(output).__name__}: wrap it in a module that does, and check that"
            )
        noisy = any(part.training for part in module.modules())
        calls.append((inputs[0].detach().clone(), output.detach().clone(), module.training, noisy))

    handle = model.register_forward_hook(note)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def answers(model: nn.Module, logits: Tensor) -> Iterator[None]:
    """The model runs as ever, and these logits stand in for what it answers."""
    handle = model.register_forward_hook(lambda module, inputs, output: logits.clone())
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def left_as_found(*models: nn.Module) -> Iterator[Callable[[nn.Module], list[str]]]:
    """Put back weights, buffers, modes, gradients and random numbers.

    Yields a function that names the tensors of a model that have changed since.
    """
    states = {model: dict(model.state_dict(keep_vars=True)) for model in models}
    before = {
        model: {name: tensor.detach().clone() for name, tensor in state.items()} for model, state in states.items()
    }
    gradients = [(parameter, parameter.grad) for model in models for parameter in model.parameters()]
    modes = [(module, module.training) for model in models for module in model.modules()]
    device = model_device(models[0])

    def changed(model: nn.Module) -> list[str]:
        old = before[model]
        return [name for name, tensor in states[model].items() if not torch.equal(tensor.detach(), old[name])]

    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield changed
    finally:
        for model in models:
            with torch.no_grad():
                for name in changed(model):
                    states[model][name].copy_(before[model][name])
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, training in modes:
            module.training = training
