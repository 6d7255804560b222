"""Several processes that train one network together, as ``torchrun`` starts them. Alone, nothing happens here.

Each process has all the weights and its share of every batch; gradients are added up before each step.
"""

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn


class TrainingError(RuntimeError):
    """Training cannot go on. The message says where it stopped and what to look at.

    ``history`` holds the epochs that were finished, or None.
    """

    history = None


class Processes(NamedTuple):
    """Which one this is, and of how many."""

    rank: int = 0
    count: int = 1


ALONE = Processes()


def join_processes(device: torch.device) -> Processes:
    """Meet the other processes that ``torchrun`` has started; without it, one process is all there is."""
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
            return ALONE
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_leave)
    return Processes(dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The GPU that belongs to this process, where several of them share a machine."""
    if device.type == "cuda" and device.index is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


def start_alike(model: nn.Module, processes: Processes) -> None:
    """Give every process the weights and buffers of the first one."""
    if processes.count > 1:
        with torch.no_grad(), _together():
            for tensor in (*model.parameters(), *model.buffers()):
                dist.broadcast(tensor, 0)


def check_alike(name: str, tensors: Iterable[Tensor], processes: Processes) -> None:
    """Raise ValueError unless every process brought the same tensors: the same data, the same teacher.

    Their bytes are summed, so that each process need not see those of the others.
    """
    if processes.count == 1:
        return
    own = torch.zeros(1, dtype=torch.int64)
    for place, tensor in enumerate(tensors):
        data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        own += (place + 1) * (data.sum(dtype=torch.int64).cpu() + len(data))
    if add_up(own, processes) != own * processes.count:
        raise ValueError(
            f"{name} differs between the {processes.count} processes that train together: read it from the same file "
            f"everywhere, or set the same seed (torch.manual_seed) before it is made"
        )


def add_up(tensor: Tensor, processes: Processes) -> Tensor:
    """The sum of the processes' tensors."""
    if processes.count > 1:
        there = "cuda" if dist.get_backend() == "nccl" else "cpu"  # where messages are taken from
        message = tensor.to(there, copy=True)
        with _together():
            dist.all_reduce(message)
        tensor = message.to(tensor.device)
    return tensor


def average_gradients(parameters: Iterable[nn.Parameter], size: Tensor, processes: Processes) -> Tensor:
    """Replace each gradient by the mean over the processes, weighted by how much each one's loss is a mean over.

    A mean of the processes' means would be wrong where their shares differ.

    Args:
        parameters: of this process's network; the same ones have a gradient in every process.
        size: a number in a tensor: the examples, or positions, in this process's share of the batch; 0 where none of
            them counts.

    Returns:
        This process's weight in the mean, times the number of processes: about 1.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    size = size.reshape(1).to(gradients[0].device, torch.float32)  # half precision cannot count to 2049
    # One message for all: many small ones wait for each other.
    message = add_up(torch.cat([*(gradient.flatten() * size for gradient in gradients), size]), processes)
    total = message[-1:].clamp(min=1)  # where nothing counts in any process, the gradients are 0 already
    parts = (message[:-1] / total).split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return size * processes.count / total


def wait_for_all(processes: Processes) -> None:
    """Go on when every process has come here."""
    if processes.count > 1:
        with _together():
            dist.barrier()


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "another process of this run has ended, so this one stops too. Look at what that process printed; with a "
            "checkpoint, the same command goes on from the last whole epoch"
        ) from error
