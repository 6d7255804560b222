"""The one training loop, under :func:`~kdutils.train.fit` and :func:`~kdutils.train.distill`.

Any model, any batches, one process or several: what differs is said by arguments, and nothing here knows of teachers.
"""

import copy
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data.distributed import DistributedSampler
from tqdm.std import tqdm

from .checkpoint import describe, digest, digest_of, load_checkpoint, restore, save_checkpoint, state_of
from .config import History, TrainConfig
from .data import Batch, Split, batches, first_tensor, interleave, map_tensors
from .evaluate import mode, score
from .forward import Adapter, read
from .losses import LossParts
from .positions import IGNORED, at_least_float32, check_label_values, check_labels
from .processes import (
    Processes,
    TrainingError,
    add_up,
    average_gradients,
    check_alike,
    join_processes,
    start_alike,
    wait_for_all,
)

Loss = Callable[[Tensor, Batch], Tensor | LossParts]


@dataclass(frozen=True)
class Run:
    """What a run is made of besides its settings; see :func:`~kdutils.train.fit` for each."""

    sources: Sequence[Split | Iterable]  # what to train on, its batches spread evenly over an epoch
    val: Split | Iterable | None
    loss: Loss
    task_loss: Loss  # what `val_loss` is where labels are no class numbers
    augment: Callable[..., Any] | None
    adapter: Adapter | None
    optimizer: Callable[..., torch.optim.Optimizer] | None
    schedule: Callable[[float], float]
    on_epoch: Callable[[History], None] | None
    keep: str
    checkpoint: str | Path | None
    run_name: str | None
    extend: bool
    identity: dict[str, Any]  # what a checkpoint must agree on, beyond what is compared for every run


def train(model: nn.Module, run: Run, config: TrainConfig, history: History) -> History:
    """Train ``model`` in place and return the history, which is filled epoch by epoch."""
    device = torch.device(history.device)
    processes = join_processes(device)
    model.to(device)
    start_alike(model, processes)
    identity = {} if run.checkpoint is None else _identity(model, run, config)
    run = _placed(run, device)
    lengths = [_steps(source, config.batch_size) for source in run.sources]
    watched = _look_before(model, run, config, processes)
    optimizer = _make_optimizer(model, run, config)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
    shuffle = torch.Generator().manual_seed(config.seed)
    best: dict[str, Any] = {}
    steps = sum(lengths)
    with mode(model, training=True), _own_random_state(device):
        torch.manual_seed(config.seed)  # for dropout, and for the order of loaders
        if run.checkpoint is not None and Path(run.checkpoint).exists():
            state = load_checkpoint(run.checkpoint, identity, extend=run.extend)
            restore(state, model, optimizer, scaler, [shuffle, *_generators(run)])
            history, best = History(**state["history"] | {"device": history.device}), state["best"]
        done = len(history.loss)
        check_alike("checkpoint", [torch.tensor(done)], processes)
        bar = tqdm(
            total=config.epochs,
            initial=done,
            unit="epoch",
            file=sys.stderr,
            disable=not config.progress or processes.rank,
        )
        with bar:
            for epoch in range(done, config.epochs):
                start = time.perf_counter()
                if processes.count > 1:  # dropout must differ between the processes, and be the same after a restart
                    torch.manual_seed(config.seed + 1_000_003 * epoch + processes.rank)
                terms: Tensor | None = None
                for step, batch in enumerate(_epoch(run, lengths, config, shuffle, epoch, device, processes)):
                    for group in optimizer.param_groups:
                        group["lr"] = group["initial_lr"] * run.schedule(
                            (epoch * steps + step) / (config.epochs * steps)
                        )
                    with precision(config.precision, device):
                        logits, batch = read(model, batch, run.adapter)
                    logits = at_least_float32(logits)
                    if watched and epoch == done:  # an epoch shows all labels; looking at values makes a GPU wait
                        # Where another process's share of the batch has labels, one without them is no error.
                        _look_at_labels(logits, batch.labels, f"step {step + 1}", may_be_none=processes.count > 1)
                        _look_for_shift(batch, run.adapter)
                    parts = run.loss(logits, batch)
                    optimizer.zero_grad()
                    scaler.scale(parts.total if isinstance(parts, LossParts) else parts).backward()
                    weight = None  # of this process in the mean over all; one alone need not count its examples
                    if processes.count > 1:
                        weight = average_gradients(model.parameters(), _size(batch), processes)
                    if config.clip is not None:
                        scaler.unscale_(optimizer)
                        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                    scaler.step(optimizer)
                    scaler.update()
                    values = torch.stack(parts if isinstance(parts, LossParts) else (parts,)).detach()
                    if terms is None:
                        terms = values.new_empty(steps, len(values))
                    # Kept on the device: reading a value at each step would make a GPU wait. Kept in one tensor: many
                    # small ones between the large ones of each step leave holes in memory.
                    terms[step] = values if weight is None else torch.where(weight > 0, values * weight, 0.0)
                _report(history, terms, model, run, epoch, processes)
                history.seconds.append(time.perf_counter() - start)
                if run.keep == "best":
                    best = _better(best, model, history)
                if run.checkpoint is not None:
                    if processes.rank == 0:
                        _save(run, identity, model, optimizer, scaler, shuffle, history, best)
                    wait_for_all(processes)
                bar.update()
                bar.set_postfix(_shown(history))
                if run.on_epoch is not None and processes.rank == 0:
                    run.on_epoch(history)
        if run.keep == "best":
            model.load_state_dict(best["model"])
            history.best_epoch = best["epoch"]
    return history


def _identity(model: nn.Module, run: Run, config: TrainConfig) -> dict[str, Any]:
    """What must be the same for a checkpoint to belong to this run."""
    settings = asdict(config)
    del settings["device"], settings["progress"]
    settings |= run.identity | {"initial weights": digest(model.state_dict()), "keep": run.keep}
    settings["run_name"] = run.run_name
    for role in ("loss", "augment", "adapter", "optimizer", "schedule"):
        if run.run_name is None and role not in settings:
            settings[role] = describe(role, getattr(run, role))
    for role, source in zip(("examples", "unlabelled examples"), run.sources, strict=False):
        if run.run_name is None or isinstance(source, Split):
            settings[role] = digest_of(role, source)
    return settings


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Matrix products in the number format called ``name``."""
    with nullcontext() if name == "float32" else torch.autocast(device.type, dtype=getattr(torch, name)):
        yield


# --- before the first step ---


def _placed(run: Run, device: torch.device) -> Run:
    """The run with its splits on the device; batches of loaders follow one by one."""
    *sources, val = (part.to(device) if isinstance(part, Split) else part for part in (*run.sources, run.val))
    return Run(**{**vars(run), "sources": sources, "val": val})


def _is_shared(source: Iterable | None) -> bool:
    return isinstance(getattr(source, "sampler", None), DistributedSampler)


def _steps(source: Split | Iterable, batch_size: int) -> int:
    return math.ceil(len(source) / batch_size) if isinstance(source, Split) else len(source)


def _make_optimizer(model: nn.Module, run: Run, config: TrainConfig) -> torch.optim.Optimizer:
    settings = {"lr": config.lr, "weight_decay": config.weight_decay}
    if run.optimizer is None:
        # foreach: all weights in a few calls, as PyTorch does by itself on a GPU. The sums are the same, bit by bit.
        settings |= {"momentum": config.momentum, "nesterov": config.momentum > 0, "foreach": True}
    optimizer = (run.optimizer or torch.optim.SGD)(model.parameters(), **settings)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def _look_before(model: nn.Module, run: Run, config: TrainConfig, processes: Processes) -> bool:
    """Say now what would fail in the middle of an epoch; True if the labels are to be watched during the first one."""
    watched = run.adapter is not None
    if run.keep == "best" and run.val is None:
        raise ValueError('keep="best" needs val: there is nothing else to tell the best epoch by')
    if processes.count > 1 and _is_shared(run.val):
        raise ValueError(
            "val comes from a loader with a DistributedSampler, which may give an example twice: make it without one; "
            "its batches are shared between the processes all the same"
        )
    for source in run.sources:
        if not isinstance(source, Split):
            watched = True
            if processes.count > 1 and not _is_shared(source):
                raise ValueError(
                    f"{processes.count} processes train together, but the loader gives each of them all batches: make "
                    f"it with DataLoader(…, sampler=DistributedSampler(data_set))"
                )
            continue
        last = len(source) % config.batch_size or min(config.batch_size, len(source))
        if last < processes.count:
            raise ValueError(
                f"the last batch has {last} of {len(source)} examples, too few for {processes.count} processes: choose "
                f"another batch_size"
            )
        example = Batch(*map_tensors(lambda part: part[:1], (source.inputs, source.labels)), index=None)
        if last // processes.count == 1 and any(isinstance(part, _BatchNorm) for part in model.modules()):
            _try_one_example(model, run, example, last, config)
        if run.adapter is None and source.labels is not None and source.labels.dtype == torch.int64:
            with mode(model, training=False), torch.no_grad():
                logits, _ = read(model, example)
            _look_at_labels(logits.expand(len(source), *logits.shape[1:]), source.labels, "the data")
            _look_for_shift(Batch(source.inputs, source.labels, None), run.adapter)
            watched |= bool((source.labels == IGNORED).any())
    return watched


def _try_one_example(model: nn.Module, run: Run, example: Batch, last: int, config: TrainConfig) -> None:
    """Batch norm may need two examples, if each gives it one value for a channel."""
    try:
        with torch.no_grad():
            read(copy.deepcopy(model).train(), example, run.adapter)
    except ValueError as error:
        raise ValueError(
            f"batch norm cannot train on one example ({error}), and the last batch leaves one for a process: choose "
            f"another batch_size than {config.batch_size}, or leave {last} examples out"
        ) from error


def _look_at_labels(logits: Tensor, labels: Tensor | None, where: str, *, may_be_none: bool = False) -> None:
    if labels is None or labels.dtype != torch.int64:
        return
    check_labels(labels, logits)
    counted = labels[labels != IGNORED]
    if len(counted) == 0:
        if may_be_none:
            return
        raise ValueError(f"no label of {where} counts: all are {IGNORED}. Leave such batches out")
    check_label_values(counted, logits.shape[-1])


def _look_for_shift(batch: Batch, adapter: Adapter | None) -> None:
    tokens = batch.inputs.get("input_ids") if isinstance(batch.inputs, dict) else None
    if adapter is not None or tokens is None or batch.labels is None or tokens.shape != batch.labels.shape:
        return
    counted = batch.labels != IGNORED
    if torch.equal(tokens[counted], batch.labels[counted]):
        raise ValueError(
            "the labels are the input tokens themselves, while the logits at position i answer for the token at i + 1: "
            "pass adapter=kdutils.next_token"
        )


# --- during an epoch ---


def _epoch(
    run: Run, lengths: Sequence[int], config: TrainConfig, shuffle, epoch: int, device, processes: Processes
) -> Iterator[Any]:
    """The batches of one epoch, on the device; of each, this process's share."""

    def entries(source: Split | Iterable) -> Iterable:
        if isinstance(source, Split):
            share = {"rank": processes.rank, "processes": processes.count}
            return batches(source, config.batch_size, generator=shuffle, augment=run.augment, **share)
        if _is_shared(source):
            source.sampler.set_epoch(epoch)
        return (map_tensors(lambda part: part.to(device), batch) for batch in source)

    return interleave([entries(source) for source in run.sources], lengths)


def _size(batch: Batch) -> Tensor:
    """How many examples, or positions with labels, the loss of this batch is a mean over."""
    labels = batch.labels
    if labels is None:
        return torch.tensor(float(len(first_tensor(batch.inputs))))
    return (labels != IGNORED).sum() if labels.dtype == torch.int64 else torch.tensor(float(len(labels)))


# --- after an epoch ---


def _report(history: History, terms: Tensor, model: nn.Module, run: Run, epoch: int, processes: Processes) -> None:
    """Add an epoch to the history. ``terms`` is ``(steps, 1)``, or ``(steps, 3)``: total, soft, hard."""
    terms = add_up(terms, processes) / processes.count
    finite = torch.isfinite(terms[:, 0])
    if not finite.all():
        step = int((~finite).nonzero()[0])
        raise _stopped(
            history,
            f"the loss became {terms[step, 0].item()} in epoch {epoch + 1}, step {step + 1} of {len(terms)}: lower lr, "
            f"or look at the inputs of that step",
        )
    # The hard term is nan where there were no labels.
    means = terms.mean(dim=0) if torch.isfinite(terms).all() else terms.nanmean(dim=0)
    for name, value in zip(("loss", "soft", "hard"), means.tolist(), strict=False):
        if not math.isnan(value):  # no label in the whole epoch, so there is no hard term
            getattr(history, name).append(value)
    if processes.count > 1:  # the running means of batch norm are each process's own
        start_alike(model, processes)
    if run.val is None:
        if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
            raise _stopped(history, f"the weights became nan or infinite at the end of epoch {epoch + 1}: lower lr")
        return
    result = score(model, run.val, loss=run.task_loss, adapter=run.adapter, processes=processes)
    if not math.isfinite(result.loss):
        raise _stopped(history, f"the logits became nan or infinite at the end of epoch {epoch + 1}: lower lr")
    history.val_loss.append(result.loss / result.count)
    if result.errors is not None:
        history.val_errors.append(result.errors)


def _stopped(history: History, message: str) -> TrainingError:
    error = TrainingError(message)
    error.history = history
    return error


def _better(best: dict[str, Any], model: nn.Module, history: History) -> dict[str, Any]:
    """The best epoch so far: the fewest errors, or the lowest loss where none are counted; the first of equals."""
    value = (history.val_errors or history.val_loss)[-1]
    if best and best["value"] <= value:
        return best
    state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return {"value": value, "epoch": len(history.loss), "model": state}


def _shown(history: History) -> dict[str, str]:
    shown = {"loss": f"{history.loss[-1]:.4g}"}
    if history.val_errors:
        shown["val_errors"] = str(history.val_errors[-1])
    return shown


def _save(run: Run, identity, model, optimizer, scaler, shuffle, history: History, best) -> None:
    state = state_of(model, optimizer, scaler, [shuffle, *_generators(run)])
    try:
        save_checkpoint(run.checkpoint, identity, state | {"best": best, "history": asdict(history)})
    except OSError as error:
        raise _stopped(
            history,
            f"could not save epoch {len(history.loss)} to {run.checkpoint}: {error}. The file of the epoch before, if "
            f"there is one, is whole: make room and run again to go on from it",
        ) from error


def _generators(run: Run) -> list[torch.Generator]:
    """Those that loaders and their samplers shuffle with, where they have some of their own."""
    holders = [part for source in run.sources for part in (source, getattr(source, "sampler", None))]
    found = [getattr(holder, "generator", None) for holder in holders]
    return list({id(generator): generator for generator in found if generator is not None}.values())


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    # The caller's random numbers go on after training as if it had not happened.
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        yield
