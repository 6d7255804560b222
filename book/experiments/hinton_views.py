"""Three times the views for Hinton's student, and more for the smallest network.

    python book/experiments/hinton_views.py                  all that is missing
    python book/experiments/hinton_views.py choose-student   one of the experiments

As hinton_beaten.py, but for this: the teacher of the choices has as many networks as
the final one, the views are stored in bytes, and what is tried for soft targets is
tried for labels too, with two seeds each. Results go to the same record, as "choose
views", "views" and "smallest views". All of it was run on a GPU, by nine to seventeen
processes at a time; on two CPU cores it takes many hours.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import product

import torch
from filelock import FileLock
from hinton_2015 import CHOICE_SEEDS, FAST, LOG, all_train, main, mnist, record
from hinton_beaten import (
    MEMBER,
    MEMBER_SEEDS,
    VIEWS,
    choose_teacher,
    count_teacher,
    digest_of,
    learn,
    size_and_errors,
    teacher,
)
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kdutils import (
    MLP,
    ConvNet,
    Split,
    TrainConfig,
    cache_logits,
    pick_device,
    random_warp,
)
from kdutils.results import write_atomically

CHOICE_MEMBERS = (100, 101, 102, 103)

# Copies: views of each image in the transfer set; the first is the image itself.
# Passes: over all views. Without a temperature the targets are the labels.
STUDENT = {
    "views": "strong",
    "copies": 108,
    "temperature": 2.0,
    "lr": 0.2,
    "batch_size": 1024,
    "passes": 4,
}
SEEDS = range(5)
TRIAL_SEEDS = CHOICE_SEEDS[:2]
TINY = {
    "views": "gentle",
    "copies": 108,
    "temperature": 2.0,
    "lr": 0.1,
    "batch_size": 512,
    "passes": 2,
}
TINY_SEEDS = range(10)
TINY_STAGES = (
    [[6], [10], [11, 11]],
    [[6], [10], [10, 10]],
    [[4, 6], [9], [11, 11]],
    [[5], [8], [9, 9, 9]],
)


# --- teacher and transfer set ---


class FromBytes(nn.Module):
    """Images from rows of bytes, in which millions of views fit into memory."""

    def forward(self, rows: Tensor) -> Tensor:
        """``(N, 784)``, uint8 in, ``(N, 1, 28, 28)`` with numbers from 0 to 1 out."""
        return rows.unflatten(1, (1, 28, 28)).float() / 255


@lru_cache(maxsize=1)  # gigabytes
def transfer_set(train_size: int, views: str, copies: int) -> tuple[Split, Tensor]:
    """Views of the training images in bytes, and the teacher's logits for them."""
    device = pick_device()
    train = all_train() if train_size == len(all_train()) else mnist().train
    train = train.to(device)
    generator = torch.Generator().manual_seed(0)
    rows = torch.empty(copies, len(train), 784, dtype=torch.uint8, device=device)
    for copy in range(copies):
        for place in range(0, len(train), 5000):
            some = slice(place, place + 5000)
            view = train.images[some]
            if copy:
                view = random_warp(view, generator, **VIEWS[views])
            rows[copy, some] = (view * 255).round().byte().flatten(1)
    shown = Split(rows.flatten(0, 1), train.labels.repeat(copies))
    logits = [answers(rows[copy], train, views, copy) for copy in range(copies)]
    return shown, torch.cat(logits).to(device)


def answers(rows: Tensor, train: Split, views: str, copy: int) -> Tensor:
    """The teacher's logits for one view of each image, kept for the next time."""
    device = rows.device
    # Named after all that the logits depend on: others must never be taken for these.
    settings = (len(train), VIEWS[views], MEMBER, MEMBER_SEEDS, CHOICE_MEMBERS)
    path = (
        LOG.scratch / f"logits-{digest_of(*settings, device.type)}-{copy}.safetensors"
    )
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            members = teacher(train.to("cpu"), CHOICE_MEMBERS)
            answering = nn.Sequential(FromBytes(), members).to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                logits = cache_logits(answering, rows).half()
            write_atomically(path, save({"logits": logits.cpu()}))
    return load_file(path)["logits"].float()


def student(
    build: Callable[[], nn.Module],
    seed: int,
    train: Split,
    views: str,
    copies: int,
    lr: float,
    batch_size: int,
    passes: int,
    temperature: float | None,
) -> nn.Module:
    """A network that learns from the views: soft targets or, without T, labels."""
    shown, teacher_logits = transfer_set(len(train), views, copies)
    torch.manual_seed(seed)
    network = build()
    settings = FAST | {"lr": lr, "batch_size": batch_size}
    config = TrainConfig(epochs=passes, seed=seed, **settings)
    learner = nn.Sequential(FromBytes(), network)
    learn(learner, shown, config, teacher_logits, temperature)
    return network


# --- choices, on validation ---


def student_trials() -> list[dict]:
    """What is tried for Hinton's student: the same rates and passes on each side."""
    rates = [STUDENT | {"lr": lr} for lr in (0.2, 0.1, 0.05)]
    more = [STUDENT | {"lr": lr, "passes": 8} for lr in (0.2, 0.1)]
    trials = [how | {"temperature": 1.0} for how in rates]
    trials += [how | {"temperature": T} for T in (2.0, None) for how in rates + more]
    trials += [STUDENT | {"lr": 0.1, "passes": 8, "temperature": 1.0}]
    trials += [STUDENT | {"lr": 0.4, "temperature": T} for T in (2.0, None)]
    trials += [STUDENT | {"temperature": 4.0}]
    # As many steps with fewer views: what do more views bring, and what more steps?
    fewer = [{"copies": 36, "passes": 12}, {"copies": 12, "passes": 36}]
    return trials + [
        STUDENT | {"temperature": T} | how for how in fewer for T in (2.0, None)
    ]


def tiny_trials() -> list[dict]:
    """What is tried for the networks of few parameters, likewise."""
    trials = [TINY | {"temperature": T} for T in (2.0, 4.0)]
    return trials + [
        TINY | {"temperature": T, "lr": lr}
        for T in (1.0, None)
        for lr in (0.1, 0.05, 0.2)
    ]


def choose_student() -> None:
    """Hinton's student."""
    try_out("student", MLP, student_trials())


def choose_smallest() -> None:
    """The network with few parameters: its shape, then how it learns."""
    for stages in TINY_STAGES:
        try_out("smallest", partial(ConvNet, stages), [TINY], stages=stages)
    stages = best_stages()
    if stages is not None:
        build = partial(ConvNet, stages)
        try_out("smallest", build, tiny_trials(), stages=stages)


def try_out(model: str, build: Callable[[], nn.Module], trials: list, **more) -> None:
    """Train two networks with each of these settings; count their errors."""
    for how, seed in product(trials, TRIAL_SEEDS):
        this = {"experiment": "choose views", "model": model, "seed": seed, **more}
        trained = partial(student, build, seed, mnist().train, **how)
        record("val_errors", mnist().val, trained, **this, **how)


def val_errors(model: str, how: dict) -> float | None:
    """The mean over the seeds; None while a run is missing."""
    found = LOG.runs(experiment="choose views", model=model, **how)
    if len(found) < len(TRIAL_SEEDS):
        return None
    return sum(run["val_errors"] for run in found) / len(found)


def best(model: str, trials: list[dict]) -> dict | None:
    """The trial with the fewest validation errors; None while a run is missing."""
    errors = [val_errors(model, how) for how in trials]
    return None if None in errors else trials[errors.index(min(errors))]


def best_stages() -> list | None:
    """The shape of the smallest network; None while a run is missing."""
    found = best("smallest", [TINY | {"stages": stages} for stages in TINY_STAGES])
    return found and found["stages"]


# --- the networks themselves, on the test set ---


def views() -> None:
    """The teacher, and Hinton's student taught by it and by the labels."""
    count_teacher("views", MEMBER_SEEDS, all_train(), mnist().test, "test_errors")
    for seed in SEEDS:
        for model, how in best_of_each("student", student_trials()).items():
            network_run(MLP, experiment="views", model=model, seed=seed, **how)


def smallest() -> None:
    """A network of few parameters, taught by the teacher and by the labels."""
    stages = best_stages()
    for seed in TINY_SEEDS if stages is not None else ():
        trials = [how | {"stages": stages} for how in tiny_trials()]
        for model, how in best_of_each("smallest", trials).items():
            this = {"experiment": "smallest views", "model": model, "seed": seed}
            network_run(partial(ConvNet, stages), **this, **how)


def best_of_each(model: str, trials: list[dict]) -> dict[str, dict]:
    """The best settings for soft targets and for labels, once all have been tried."""
    labels = [how for how in trials if how["temperature"] is None]
    soft = [how for how in trials if how["temperature"] is not None]
    found = {"distilled": best(model, soft), "labels": best(model, labels)}
    return {} if None in found.values() else found


def network_run(build: Callable[[], nn.Module], **settings) -> None:
    """Unless it is recorded: train one network and count its errors."""
    with LOG.claim(**settings) as run:
        if run:
            how = {name: settings[name] for name in STUDENT}
            network = student(build, settings["seed"], all_train(), **how)
            run |= size_and_errors(network)


if __name__ == "__main__":
    main(
        {
            "choose-teacher": partial(choose_teacher, "choose views", CHOICE_MEMBERS),
            "choose-student": choose_student,
            "choose-smallest": choose_smallest,
            "views": views,
            "smallest": smallest,
        }
    )
