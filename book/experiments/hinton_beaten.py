"""A better teacher for Hinton's student; the smallest network with as few errors.

    python book/experiments/hinton_beaten.py             all that is not recorded yet
    python book/experiments/hinton_beaten.py smallest    one of the experiments

Results go to the record of hinton_2015.py, book/results/hinton-2015.json. Start it in
several processes if you like, and stop it when you like.

The teacher is an ensemble of convolutional networks. The transfer set holds several
views of each training image, and the teacher's logits for each of these views: teacher
and student see the same. Choices are made on 10,000 validation images, by the runs
called "choose beaten", with teachers that are trained on the other 50,000. The shape of
the teacher's networks, their training and the views of the smallest network come from
trials by hand on the same images, which are not recorded. The runs called "… first" are
those of an earlier version of this script, with another teacher.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from filelock import FileLock
from hinton_2015 import CHOICE_SEEDS, FAST, LOG, all_train, main, mnist, record
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdutils import (
    MLP,
    ConvNet,
    Ensemble,
    Split,
    TrainConfig,
    cache_logits,
    count_errors,
    count_multiply_adds,
    count_parameters,
    fit,
    kd_loss,
    pick_device,
    random_warp,
    save_model,
)

# How far a view may be from its image, for random_warp.
VIEWS = {
    "gentle": {
        "degrees": 4.0,
        "scale": 0.05,
        "shear": 0.05,
        "pixels": 0.5,
        "elastic": 0.3,
    },
    "mild": {
        "degrees": 7.0,
        "scale": 0.08,
        "shear": 0.08,
        "pixels": 1.0,
        "elastic": 0.6,
    },
    "strong": {
        "degrees": 10.0,
        "scale": 0.1,
        "shear": 0.1,
        "pixels": 1.5,
        "elastic": 1.0,
    },
}
MEMBER = {
    "stages": [[16], [32, 48], [64, 96]],
    "views": "mild",
    "lr": 0.1,
    "weight_decay": 5e-4,
    "epochs": 30,
}
MEMBER_SEEDS = (0, 1, 2, 3)  # one teacher together
CHOICE_MEMBERS = (100, 101)
SEEDS = range(5)

# Copies: views of each image in the transfer set; the first is the image itself.
# Passes: over all views. Without a temperature the targets are the labels.
STUDENT = {
    "views": "strong",
    "copies": 36,
    "temperature": 2.0,
    "lr": 0.1,
    "passes": 4,
}
STUDENT_OF_LABELS = STUDENT | {"temperature": None}
TINY = {"views": "gentle", "copies": 12, "temperature": 2.0, "lr": 0.05, "passes": 3}
TINY_OF_LABELS = TINY | {"temperature": None, "lr": 0.2}
TINY_STAGES = ([[6], [10], [11, 11]], [[6], [10], [10, 10]])
SMALLEST = TINY_STAGES[0]  # the one that is kept


# --- teacher and transfer set ---


def digest_of(*settings) -> str:
    """A short name for what depends on all these settings."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


def member(seed: int, train: Split) -> ConvNet:
    """One network of the teacher; it sees a new view of each image in each epoch."""
    made_of = digest_of(MEMBER, VIEWS[MEMBER["views"]])
    name = f"member-{seed}-{len(train)}-{made_of}"
    settings = dict(MEMBER)
    stages, views = settings.pop("stages"), settings.pop("views")

    def build() -> ConvNet:
        torch.manual_seed(seed)
        return ConvNet(stages)

    config = TrainConfig(seed=seed, progress=True, **FAST, **settings)
    warp = partial(random_warp, **VIEWS[views])
    return LOG.kept(name, build, train, None, config, augment=warp)


def teacher(train: Split, choosing: tuple[int, ...] = CHOICE_MEMBERS) -> Ensemble:
    """The mean of several networks' logits; ``choosing`` are those of the choices."""
    seeds = MEMBER_SEEDS if len(train) == len(all_train()) else choosing
    return Ensemble([member(seed, train) for seed in seeds])


@lru_cache(maxsize=1)  # gigabytes
def transfer_set(train_size: int, views: str, copies: int) -> tuple[Split, Tensor]:
    """Views of the training images, and the teacher's logits for them."""
    train = all_train() if train_size == len(all_train()) else mnist().train
    generator = torch.Generator().manual_seed(0)
    images = torch.empty(copies, *train.images.shape)
    images[0] = train.images
    for copy in images[1:]:
        for place in range(0, len(train), 5000):
            some = slice(place, place + 5000)
            copy[some] = random_warp(train.images[some], generator, **VIEWS[views])
    shown = Split(images.flatten(0, 1), train.labels.repeat(copies))
    # Named after all that the logits depend on: others must never be taken for these.
    settings = (train_size, copies, VIEWS[views], MEMBER, MEMBER_SEEDS, CHOICE_MEMBERS)
    name = digest_of(*settings)
    path = LOG.scratch / f"logits-{name}.safetensors"
    device = pick_device()
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            answering = teacher(train).to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                logits = cache_logits(answering, shown.images).float()
            save_file({"logits": logits}, path)
    return shown, load_file(path)["logits"].to(device)


def student(
    build: Callable[[], nn.Module],
    seed: int,
    train: Split,
    views: str,
    copies: int,
    lr: float,
    passes: int,
    temperature: float | None,
) -> nn.Module:
    """A network that learns from the views: soft targets or, without T, labels."""
    shown, teacher_logits = transfer_set(len(train), views, copies)
    torch.manual_seed(seed)
    network = build()
    config = TrainConfig(epochs=passes, lr=lr, seed=seed, **FAST)
    learn(network, shown, config, teacher_logits, temperature)
    return network


def learn(
    network: nn.Module,
    shown: Split,
    config: TrainConfig,
    teacher_logits: Tensor,
    temperature: float | None,
) -> None:
    """Train it in place: on soft targets or, without T, on labels."""
    if temperature is None:
        fit(network, shown, None, config)
    else:

        def soft_loss(logits, batch):
            return kd_loss(logits, teacher_logits[batch.index], temperature)

        fit(network, shown, None, config, loss=soft_loss)


# --- choices, on validation ---


def choose() -> None:
    """Views, temperature and learning rate of the large student and of the smallest."""
    choose_teacher()
    choose_student()
    choose_smallest()


def choose_teacher(
    experiment: str = "choose beaten", members: tuple[int, ...] = CHOICE_MEMBERS
) -> None:
    """The errors on validation of the teacher of all choices."""
    count_teacher(experiment, members, mnist().train, mnist().val, "val_errors")


def count_teacher(
    experiment: str,
    members: tuple[int, ...],
    train: Split,
    held_out: Split,
    counted: str,
) -> None:
    """The errors of a teacher, and of each of its networks."""
    this = {"experiment": experiment, **MEMBER}
    for seed in members:
        build = partial(member, seed, train)
        record(counted, held_out, build, model="member", seed=seed, **this)
    build = partial(teacher, train, members)
    named = {"model": "ensemble", "members": list(members)}
    record(counted, held_out, build, **named, **this)


def choose_student() -> None:
    """Hinton's student."""
    few = STUDENT | {"copies": 12}
    trials = [few | {"temperature": T} for T in (2.0, 1.0, 4.0, None)]
    trials += [few | {"lr": 0.05}, few | {"lr": 0.2}, few | {"passes": 8}]
    trials += [few | {"lr": 0.2, "temperature": None}]
    trials += [few | {"views": "mild", "temperature": T} for T in (2.0, None)]
    trials += [STUDENT, STUDENT_OF_LABELS]
    try_out("student", MLP, trials)


def choose_smallest() -> None:
    """The network with few parameters."""
    mild = TINY | {"views": "mild", "lr": 0.1}
    trials = [mild | {"temperature": T} for T in (None, 2.0, 1.0, 4.0)]
    rates = ((0.2, None), (0.2, 1.0), (0.2, 2.0), (0.05, 2.0))
    trials += [mild | {"lr": lr, "temperature": T} for lr, T in rates]
    trials += [mild | {"passes": 6}]
    try_out("smallest", partial(ConvNet, [[6], [10], [10, 10]]), trials)


def try_out(model: str, build: Callable[[], nn.Module], trials: list[dict]) -> None:
    """Train one network with each of these settings; count errors on validation."""
    seed = CHOICE_SEEDS[0]
    this = {"experiment": "choose beaten", "model": model, "seed": seed}
    for how in trials:
        trained = partial(student, build, seed, mnist().train, **how)
        record("val_errors", mnist().val, trained, **this, **how)


# --- the networks themselves, on the test set ---


def beaten() -> None:
    """The teacher, and Hinton's student taught by it."""
    count_teacher("beaten", MEMBER_SEEDS, all_train(), mnist().test, "test_errors")
    for seed in SEEDS:
        this = {"experiment": "beaten", "seed": seed}
        network_run(MLP, model="distilled", **this, **STUDENT)
        network_run(MLP, model="labels", **this, **STUDENT_OF_LABELS)


def smallest() -> None:
    """Two small networks, each taught by the teacher and by the labels."""
    for stages in TINY_STAGES:
        build = partial(ConvNet, stages)
        for seed in SEEDS:
            this = {"experiment": "smallest", "stages": stages, "seed": seed}
            network_run(build, model="distilled", **this, **TINY)
            network_run(build, model="labels", **this, **TINY_OF_LABELS)


def network_run(build: Callable[[], nn.Module], **settings) -> None:
    """Unless it is recorded: train one network and count its errors."""
    with LOG.claim(**settings) as run:
        if run:
            how = {name: settings[name] for name in STUDENT}
            network = student(build, settings["seed"], all_train(), **how)
            run |= size_and_errors(network)
            # Hinton's student has megabytes; only the smallest network is kept.
            first = settings["model"] == "distilled" and settings["seed"] == 0
            if first and settings.get("stages") == SMALLEST:
                path = LOG.path.with_name("hinton-2015-smallest.safetensors")
                save_model(path, network, run=run)


def size_and_errors(network: nn.Module) -> dict[str, int]:
    """Its parameters, multiply–adds for an image, and errors on the test images."""
    return {
        "parameters": count_parameters(network),
        "multiply_adds": count_multiply_adds(network),
        "test_errors": count_errors(network, mnist().test),
    }


if __name__ == "__main__":
    main({"choose": choose, "beaten": beaten, "smallest": smallest})
