"""Chapter 04's choices, made on validation: learning rates, temperature, soft weight.

    python book/experiments/mnist_choice.py

Trains one teacher per learning rate, keeps the best, then trains the 128-unit student
on labels and on that teacher, over a grid, once per seed. Every finished run is saved
at once into book/results/mnist-choice.json, and a run that is there is not repeated:
stop and start as you like. The test set is never looked at. About 15 minutes on two
CPU cores.
"""

import math
from functools import partial
from itertools import product

import torch
from runlog import RESULTS, RunLog
from tqdm.std import tqdm

from kdutils import (
    CNN,
    MLP,
    History,
    TrainConfig,
    distill,
    fit,
    load_dataset,
    load_model,
    random_shift,
    save_model,
)

LOG = RunLog("mnist-choice")
TEACHER = RESULTS / "mnist-teacher.safetensors"

EPOCHS = 10
# Apart from the seeds 0, 1, … of the chapter, so that no run serves twice.
SEEDS = (100, 101, 102)
TEACHER_RATES = (0.02, 0.05, 0.1)
LEARNING_RATES = (0.02, 0.05, 0.1, 0.2)
TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 20.0)
SOFT_WEIGHTS = (0.5, 0.9, 1.0)


def main() -> None:
    """Train what is missing from the results, and save after each run."""
    data = load_dataset("mnist")

    def train_student(lr: float, seed: int, teacher=None, **weights) -> dict:
        torch.manual_seed(seed)
        student = MLP((128,))
        config = TrainConfig(epochs=EPOCHS, lr=lr, seed=seed)
        if teacher is None:
            history = fit(student, data.train, data.val, config)
        else:
            history = distill(student, teacher, data.train, data.val, config, **weights)
        return last(history)

    for lr in TEACHER_RATES:
        with LOG.claim(model="teacher", lr=lr, seed=SEEDS[0]) as run:
            if run:
                torch.manual_seed(SEEDS[0])
                teacher = CNN(hidden=128)
                shift = partial(random_shift, pixels=2)
                config = TrainConfig(epochs=EPOCHS, lr=lr, seed=SEEDS[0])
                history = fit(teacher, data.train, data.val, config, augment=shift)
                run |= last(history)
                others = [other["val_errors"] for other in LOG.runs(model="teacher")]
                if run["val_errors"] < min(others, default=math.inf):
                    notes = {"lr": lr, "seed": SEEDS[0], "epochs": EPOCHS}
                    notes["val_errors"] = run["val_errors"]
                    save_model(TEACHER, teacher, **notes)
    teacher = load_model(TEACHER)
    grid = list(
        product(SEEDS, LEARNING_RATES, [None, *product(TEMPERATURES, SOFT_WEIGHTS)])
    )
    # Labels want larger steps: the best rate must not lie at the edge.
    grid += [(seed, 0.4, None) for seed in SEEDS]
    for seed, lr, cell in tqdm(grid, unit="run"):
        if cell is None:
            with LOG.claim(model="labels", lr=lr, seed=seed) as run:
                if run:
                    run |= train_student(lr, seed)
            continue
        weights = dict(zip(("temperature", "soft_weight"), cell, strict=True))
        with LOG.claim(model="distilled", lr=lr, seed=seed, **weights) as run:
            if run:
                run |= train_student(lr, seed, teacher, **weights)


def last(history: History) -> dict:
    """What the last epoch measured on validation."""
    return {"val_errors": history.val_errors[-1], "val_loss": history.val_loss[-1]}


if __name__ == "__main__":
    main()
