"""Chapter 04's choices, made on validation: learning rates, temperature, soft weight.

    python book/experiments/mnist_choice.py

Trains one teacher per learning rate, keeps the best, then trains the 128-unit student
on labels and on that teacher, over a grid, once per seed. Every finished run is saved
at once into book/results/mnist-choice.json, and a run that is there is not repeated:
stop and start as you like. The test set is never looked at. About 15 minutes on two
CPU cores.
"""

import time
from functools import partial
from itertools import product
from pathlib import Path

import torch
from tqdm.std import tqdm

from kdutils import (
    CNN,
    MLP,
    TrainConfig,
    distill,
    environment,
    fit,
    load_dataset,
    load_model,
    load_results,
    random_shift,
    save_model,
    save_results,
)

RESULTS = Path(__file__).parent.parent / "results"
OUTPUT = RESULTS / "mnist-choice.json"
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
    record = (
        load_results(OUTPUT)
        if OUTPUT.exists()
        else {"environment": environment(), "runs": []}
    )

    def measure(settings: dict, train_once) -> None:
        if any(settings.items() <= run.items() for run in record["runs"]):
            return
        start = time.perf_counter()
        history = train_once()
        record["runs"].append(
            settings
            | {
                "val_errors": history.val_errors[-1],
                "val_loss": history.val_loss[-1],
                "seconds": round(time.perf_counter() - start, 1),
                "threads": torch.get_num_threads(),
            }
        )
        save_results(OUTPUT, record)

    def teacher_run(lr: float):
        torch.manual_seed(SEEDS[0])
        teacher = CNN(hidden=128)
        config = TrainConfig(epochs=EPOCHS, lr=lr, seed=SEEDS[0])
        history = fit(
            teacher,
            data.train,
            data.val,
            config,
            augment=partial(random_shift, pixels=2),
        )
        best = min(
            (run["val_errors"] for run in record["runs"] if run["model"] == "teacher"),
            default=None,
        )
        if best is None or history.val_errors[-1] < best:
            save_model(
                TEACHER,
                teacher,
                lr=lr,
                seed=SEEDS[0],
                epochs=EPOCHS,
                val_errors=history.val_errors[-1],
            )
        return history

    def student_run(lr: float, seed: int, teacher=None, **weights):
        torch.manual_seed(seed)
        student = MLP((128,))
        config = TrainConfig(epochs=EPOCHS, lr=lr, seed=seed)
        if teacher is None:
            return fit(student, data.train, data.val, config)
        return distill(student, teacher, data.train, data.val, config, **weights)

    for lr in TEACHER_RATES:
        measure(
            {"model": "teacher", "lr": lr, "seed": SEEDS[0]}, partial(teacher_run, lr)
        )
    teacher = load_model(TEACHER)
    grid = list(
        product(SEEDS, LEARNING_RATES, [None, *product(TEMPERATURES, SOFT_WEIGHTS)])
    )
    # Labels want larger steps: the best rate must not lie at the edge.
    grid += [(seed, 0.4, None) for seed in SEEDS]
    for seed, lr, cell in tqdm(grid, unit="run"):
        if cell is None:
            measure(
                {"model": "labels", "lr": lr, "seed": seed},
                partial(student_run, lr, seed),
            )
            continue
        weights = dict(zip(("temperature", "soft_weight"), cell, strict=True))
        measure(
            {"model": "distilled", "lr": lr, "seed": seed} | weights,
            partial(student_run, lr, seed, teacher, **weights),
        )


if __name__ == "__main__":
    main()
