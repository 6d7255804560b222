"""Chapter 05's two rooms that need many seeds, on validation images.

    python book/experiments/museum.py             all that is not recorded yet
    python book/experiments/museum.py selection   one of the experiments

selection: how flattering is an error count that was used to choose the epoch and T?
one_seed: how often does the worse of two methods win when each is run once?

Results go to book/results/museum.json after every run. Start it in several processes
if you like, and stop it when you like. The test images are never looked at: half of
the 10,000 validation images play the test set, the other half plays fresh images.
"""

from functools import partial

import torch
from choosing import (
    BATCH,
    EPOCHS,
    UNITS,
    learn,
    logits,
    of,
    seeded,
    smooth_loss,
    soft_loss,
)
from hinton_2015 import main, mnist
from runlog import RunLog

from kdutils import MLP, TrainConfig, fit, hard_loss, predict_logits

LOG = RunLog("museum")
TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 8.0, 20.0)
SELECTION_SEEDS = range(20)
SPLITS = 50  # ways to cut the validation images in two
ONE_SEEDS = range(40)


def wrong_by_epoch(seed: int, temperature: float) -> torch.Tensor:
    """``(epochs, images)``: which validation images the student misses after each."""
    train, val = mnist().train, mnist().val
    student = seeded(partial(MLP, (UNITS,)), seed)
    inner = soft_loss(logits("CNN", of(seed))[0], temperature, 1.0)
    steps, seen, wrong = -(-len(train) // BATCH), 0, []

    def look() -> None:
        wrong.append(predict_logits(student, val.images).argmax(dim=1) != val.labels)

    def loss(student_logits, batch):  # noqa: ANN001, ANN202
        nonlocal seen
        if seen and seen % steps == 0:  # an epoch has just ended
            look()
        seen += 1
        return inner(student_logits, batch)

    fit(student, train, None, TrainConfig(epochs=EPOCHS, lr=0.1, seed=seed), loss=loss)
    look()
    return torch.stack(wrong)


def selection() -> None:
    """Errors where the choice was made, and of the same network on fresh images."""
    for seed in SELECTION_SEEDS:
        with LOG.claim(experiment="selection", seed=seed) as run:
            if not run:
                continue
            # (temperatures, epochs, images)
            wrong = torch.stack([wrong_by_epoch(seed, t) for t in TEMPERATURES]).float()
            halves = torch.zeros(SPLITS, wrong.shape[-1])
            for number, half in enumerate(halves):
                order = torch.Generator().manual_seed(number)
                half[torch.randperm(len(half), generator=order)[: len(half) // 2]] = 1
            chosen_on = wrong @ halves.T  # (temperatures, epochs, splits)
            fresh = wrong.sum(dim=-1, keepdim=True) - chosen_on
            third = TEMPERATURES.index(3.0)
            for name, cells in (
                (
                    "nothing: T = 3, last epoch",
                    (slice(third, third + 1), slice(-1, None)),
                ),
                ("epoch", (slice(third, third + 1), slice(None))),
                ("T", (slice(None), slice(-1, None))),
                ("epoch and T", (slice(None), slice(None))),
            ):
                reported, rest = (
                    chosen_on[cells].flatten(0, 1),
                    fresh[cells].flatten(0, 1),
                )
                best = reported.argmin(dim=0, keepdim=True)
                run[name] = [
                    round(float(errors.gather(0, best).mean()), 2)
                    for errors in (reported, rest)
                ]


def one_seed() -> None:
    """Four methods, each at its rate, many times."""
    train = mnist().train
    methods = {
        "labels": lambda seed: (hard_loss, 0.2),
        "label smoothing": lambda seed: (smooth_loss(0.1), 0.2),
        "born again": lambda seed: (
            soft_loss(logits("MLP 128", of(seed))[0], 3.0, 1.0),
            0.1,
        ),
        "distilled": lambda seed: (
            soft_loss(logits("CNN", of(seed))[0], 3.0, 1.0),
            0.1,
        ),
    }
    for seed in ONE_SEEDS:
        for name, method in methods.items():
            with LOG.claim(experiment="one seed", model=name, seed=seed) as run:
                if run:
                    loss, lr = method(seed)
                    run |= learn(seed, train, loss, lr=lr)


if __name__ == "__main__":
    main({"selection": selection, "one_seed": one_seed})
