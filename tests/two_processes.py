"""What test_processes.py starts, alone and under torchrun: each scenario is trained, and each rank saves the result.

Run as ``python -m torch.distributed.run … tests/two_processes.py FOLDER [--kill=RANK]``.
"""

import os
import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from kdutils import MLP, Split, TrainConfig, distill, fit, load_dataset, random_shift, warmup

RANK = int(os.environ.get("RANK", "0"))
COUNT = int(os.environ.get("WORLD_SIZE", "1"))
DIGITS = load_dataset("digits")
TRAIN, VAL = DIGITS.train[:201], DIGITS.val[:100]  # 64 + 64 + 64 + 9: the last batch is shared as 5 and 4
KILLED_IN = 2 * 4 + 1  # the second step of the third epoch, counted in batches


def config(**changes) -> TrainConfig:
    return TrainConfig(**({"epochs": 2, "batch_size": 64, "lr": 0.05, "device": "cpu"} | changes))


def network(seed: int = 0, *, start_differs: bool = True) -> nn.Module:
    """Each process starts from weights of its own, as in a script that sets no seed."""
    torch.manual_seed(seed + 1000 * RANK * start_differs)
    return MLP((16,))


def shifted(images, *, generator):
    return random_shift(images, 2, generator)


def tokens(split: Split, *, empty_rows: bool = False) -> Split:
    """Each row of a picture is a token to be labelled with the picture's digit; what is blank does not count."""
    images = split.images.squeeze(1)
    labels = split.labels[:, None].expand(-1, 28).clone()
    labels[images.sum(dim=-1) == 0] = -100
    labels[::3, 10:] = -100
    if empty_rows:
        labels[1::2] = -100
    return Split(images, labels)


def two_digits(split: Split) -> Split:
    """Many labels at once: is it even, is it above 4."""
    return Split(split.images, torch.stack([split.labels % 2 == 0, split.labels > 4], dim=1).float())


def binary_loss(logits, batch):
    return F.binary_cross_entropy_with_logits(logits[:, :2], batch.labels)


def loader(split: Split, **settings) -> DataLoader:
    data = TensorDataset(split.images, split.labels)
    sampler = DistributedSampler(data, num_replicas=COUNT, rank=RANK, seed=3)
    return DataLoader(data, batch_size=64 // COUNT, sampler=sampler, **settings)


def row_network() -> nn.Module:
    torch.manual_seed(5 + 1000 * RANK)
    return nn.Sequential(nn.Linear(28, 16), nn.ReLU(), nn.Linear(16, 10))


class Noise(nn.Module):
    """Dropout that remembers what it drew."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def forward(self, inputs):
        if self.training:
            kept = torch.rand_like(inputs) > 0.2
            self.drawn.append(kept[0])
            inputs = inputs * kept
        return inputs


def with_noise() -> nn.Module:
    return nn.Sequential(Noise(), network(7))


def with_batch_norm() -> nn.Module:
    torch.manual_seed(4 + 1000 * RANK)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def teacher() -> nn.Module:
    return network(9, start_differs=False)


# Each returns a model and the history of its training.
def learn(model, train, val, settings, **options):
    return model, fit(model, train, val, settings, **options)


def imitate(model, train, val, settings, *, taught_by=None, **options):
    return model, distill(model, taught_by or teacher(), train, val, settings, **options)


def scenarios(folder: Path) -> dict:
    val_loader = DataLoader(TensorDataset(VAL.images, VAL.labels), batch_size=40)  # three batches for two processes
    row_teacher = nn.Linear(28, 10)
    nn.init.normal_(row_teacher.weight, generator=torch.Generator().manual_seed(1))
    nn.init.zeros_(row_teacher.bias)
    adamw = {"optimizer": torch.optim.AdamW, "schedule": warmup(0.2)}
    pairs = TRAIN[:200]  # a DistributedSampler would repeat one of 201 examples
    killed = {"augment": Killing(), "checkpoint": folder / "killed.pt", "run_name": "killed"}
    return {
        "split": partial(learn, network(), TRAIN, VAL, config(clip=0.5)),
        "augmented": partial(learn, network(), TRAIN, VAL, config(), augment=shifted, **adamw),
        "one example left": partial(learn, network(), TRAIN[:66], VAL, config()),
        "tokens": partial(learn, row_network(), tokens(TRAIN), tokens(VAL), config()),
        "tokens, shares without labels": partial(
            learn, row_network(), tokens(TRAIN[:40], empty_rows=True), tokens(VAL), config(batch_size=4)
        ),
        "tokens distilled": partial(
            imitate, row_network(), tokens(TRAIN), tokens(VAL), config(), taught_by=row_teacher
        ),
        "tokens distilled, shares without labels": partial(
            imitate,
            row_network(),
            tokens(TRAIN[:40], empty_rows=True),
            tokens(VAL),
            config(batch_size=4),
            taught_by=row_teacher,
        ),
        "distilled": partial(imitate, network(), TRAIN, VAL, config()),
        "distilled about views": partial(imitate, network(), TRAIN, VAL, config(), augment=shifted),
        "unlabelled": partial(
            imitate, network(), TRAIN[:70], VAL, config(), unlabelled=DIGITS.train[300:400], soft_weight=0.5
        ),
        "loader": partial(learn, network(), loader(pairs), val_loader, config()),
        "loader distilled": partial(imitate, network(), loader(pairs), val_loader, config()),
        "many labels": partial(
            learn,
            network(),
            two_digits(TRAIN),
            two_digits(VAL),
            config(lr=2.0, epochs=6),
            loss=binary_loss,
            keep="best",
        ),
        "batch norm": partial(learn, with_batch_norm(), TRAIN, VAL, config()),
        "best": partial(learn, network(), TRAIN, VAL, config(lr=0.4, epochs=8), keep="best"),
        "no validation": partial(learn, network(), TRAIN, None, config()),
        "resumed": partial(learn, with_noise(), TRAIN, VAL, config(epochs=4), **killed),
        "uninterrupted": partial(learn, with_noise(), TRAIN, VAL, config(epochs=4), augment=shifted),
    }


class Killing:
    """:func:`shifted`; if the run was started with --kill, one process ends itself in the middle of an epoch."""

    def __init__(self):
        self.done = 0

    def __call__(self, images, *, generator):
        if f"--kill={RANK}" in sys.argv and self.done == KILLED_IN:
            os.kill(os.getpid(), signal.SIGKILL)
        self.done += 1
        return shifted(images, generator=generator)


def with_own_checkpoint(folder: Path) -> None:
    """Only the first process saves; on two machines without a shared disk the second one finds nothing."""
    for _ in range(2):
        learn(network(), TRAIN, VAL, config(), checkpoint=folder / f"checkpoint-of-{RANK}.pt")


def refusals(folder: Path) -> dict:
    plain = DataLoader(TensorDataset(TRAIN.images, TRAIN.labels), batch_size=32)
    return {
        "no sampler": partial(learn, network(), plain, VAL, config()),
        "too small": partial(learn, network(), TRAIN[:65], VAL, config()),
        "other teachers": partial(imitate, network(), TRAIN, VAL, config(), taught_by=network(9)),
        "other examples": partial(learn, network(), TRAIN[RANK * 64 :][:64], VAL, config()),
        "checkpoint of one": partial(with_own_checkpoint, folder),
        "shared validation": partial(learn, network(), TRAIN, loader(VAL), config()),
    }


def train_all(folder: Path) -> dict:
    results = {}
    for name, run in scenarios(folder).items():
        model, history = run()
        drawn = [noise for part in model.modules() if isinstance(part, Noise) for noise in part.drawn]
        results[name] = {"weights": model.state_dict(), "history": asdict(history), "drawn": drawn}
    for name, run in refusals(folder).items() if COUNT > 1 else ():
        try:
            run()
            results[name] = "was not refused"
        except ValueError as error:
            results[name] = str(error)
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        scenarios(folder)["resumed"]()
    torch.save(train_all(folder), folder / f"{RANK}.pt")
