"""Chapter 07: when distillation pays, measured on validation over several seeds.

    python book/experiments/choosing.py                   all that is not recorded yet
    python book/experiments/choosing.py controls data     some of the experiments

Start it in several processes if you like: no run is made twice. Stopped anywhere, it
goes on from there. Results go to book/results/choosing.json after every run.

Every line of a table is made in two stages. First its learning rate, and whatever else
it leaves open, are chosen with CHOICE_SEEDS. Then that one setting is run with other
seeds. Both count errors on the 10,000 validation images. The test images are never
looked at. Students of one table start from the same weights, seed by seed.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import product

import torch
import torch.nn.functional as F
from hinton_2015 import main, mnist
from runlog import RunLog
from torch import Tensor, nn

from kdutils import (
    CNN,
    MLP,
    Batch,
    Ensemble,
    Split,
    TrainConfig,
    TrainingError,
    agreement,
    expected_calibration_error,
    fit,
    hard_loss,
    negative_log_likelihood,
    predict_logits,
    random_shift,
    soften,
)
from kdutils.losses import unchecked_distillation_loss
from kdutils.train import Loss

LOG = RunLog("choosing")
CHOICE_SEEDS = (100, 101)  # apart from the seeds below
ONE_CHOICE_SEED = CHOICE_SEEDS[:1]  # where a table has many lines
SEEDS = range(10)
FEW_SEEDS = range(5)
FEW = {"seeds": FEW_SEEDS, "choice_seeds": ONE_CHOICE_SEED}
TEACHER_SEEDS = (0, 1, 2)  # student seed s learns from teacher s mod 3
RATES = tuple({"lr": lr} for lr in (0.05, 0.1, 0.2))
SMALL_RATES = tuple({"lr": lr} for lr in (0.02, 0.05, 0.1))
BATCH = 128
EPOCHS = 10
STEPS = 3910  # those 10 epochs, for experiments that change the number of images
UNITS = 128  # the student of chapter 04
SOFT = {"temperature": 3.0, "soft_weight": 1.0}  # chosen in chapter 04
SHIFT = partial(random_shift, pixels=2)


def rates_for(temperature: float) -> tuple[dict, ...]:
    """High temperatures want smaller steps. Chapter 7 says who chose an end."""
    return RATES if temperature < 8 else SMALL_RATES


# --- teachers ---

# How to build each, its learning rate, its epochs, and whether it sees shifted images.
TEACHERS = {
    "MLP 32": (partial(MLP, (32,)), 0.2, 10, False),
    "MLP 128": (partial(MLP, (128,)), 0.2, 10, False),
    "MLP 800": (partial(MLP, (800,)), 0.1, 10, False),
    "MLP 800, 30 epochs": (partial(MLP, (800,)), 0.1, 30, False),
    "MLP 800, shifted": (partial(MLP, (800,)), 0.1, 10, True),
    "CNN 4-8": (partial(CNN, (4, 8), hidden=32), 0.05, 10, True),
    "CNN": (partial(CNN, hidden=128), 0.05, 10, True),
    "CNN, 1 epoch": (partial(CNN, hidden=128), 0.05, 1, True),
    "CNN, 3 epochs": (partial(CNN, hidden=128), 0.05, 3, True),
}


@cache
def teacher(name: str, seed: int) -> nn.Module:
    """A network of that name; from the scratch folder if it was trained before."""
    if name == "3 × CNN":
        return Ensemble([teacher("CNN", member) for member in TEACHER_SEEDS])
    if name.startswith("untrained"):
        torch.manual_seed(seed)
        return CNN(hidden=128).eval()
    if name.startswith("assistant"):
        # A student of the CNN that becomes a teacher itself.
        build = partial(MLP, (UNITS,))
        loss = soft_loss(logits("CNN", seed)[0], **SOFT)
        training = (mnist().train, None, TrainConfig(epochs=EPOCHS, lr=0.1, seed=seed))
        return LOG.kept(
            f"{name}-{seed}", partial(seeded, build, seed), *training, loss=loss
        )
    build, lr, epochs, shifted = TEACHERS[name]
    config = TrainConfig(epochs=epochs, lr=lr, seed=seed)
    training = (mnist().train, None, config)
    return LOG.kept(
        f"{name}-{seed}",
        partial(seeded, build, seed),
        *training,
        augment=SHIFT if shifted else None,
    )


@cache
def teacher_of_some(seed: int, count: int) -> nn.Module:
    """The CNN, trained on ``count`` images only."""
    split = mnist().train[some(seed, count)]
    config = TrainConfig(epochs=epochs_for(count, 1500), lr=0.05, seed=seed)
    build = partial(seeded, partial(CNN, hidden=128), seed)
    return LOG.kept(f"some-{count}-{seed}", build, split, None, config, augment=SHIFT)


@cache
def teacher_of_noise(seed: int, noise: float) -> nn.Module:
    """The CNN, trained on labels of which a part is wrong."""
    config = TrainConfig(epochs=EPOCHS, lr=0.05, seed=seed)
    build = partial(seeded, partial(CNN, hidden=128), seed)
    split = noisy(seed, noise)
    return LOG.kept(f"noise-{noise}-{seed}", build, split, None, config, augment=SHIFT)


@cache
def logits(name: str, seed: int) -> tuple[Tensor, Tensor]:
    """That teacher's logits for the training and for the validation images."""
    return logits_of(teacher(name, seed))


@cache
def logits_of(network: nn.Module) -> tuple[Tensor, Tensor]:
    """The same of a network in hand."""
    parts = mnist().train, mnist().val
    return tuple(predict_logits(network, part.images, 250) for part in parts)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose initial weights belong to the seed."""
    torch.manual_seed(seed)
    return build()


def of(seed: int) -> int:
    """The seed of the teacher that teaches the student with this seed."""
    return TEACHER_SEEDS[seed % len(TEACHER_SEEDS)]


# --- training images ---


def some(seed: int, count: int) -> Tensor:
    """The places of ``count`` training images, drawn by the seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(mnist().train), generator=generator)[:count]


def noisy(seed: int, noise: float) -> Split:
    """All training images; this share of them has a label drawn from the other nine."""
    train = mnist().train
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(train), generator=generator) < noise
    other = torch.randint(1, 10, (len(train),), generator=generator)
    return Split(
        train.images, torch.where(wrong, (train.labels + other) % 10, train.labels)
    )


def epochs_for(count: int, steps: int = STEPS) -> int:
    """Epochs over ``count`` images that make about that many steps."""
    return max(1, round(steps / -(-count // BATCH)))


# --- losses and students ---


def soft_loss(teacher_logits: Tensor, temperature: float, soft_weight: float) -> Loss:
    """The loss of a student whose teacher's logits were computed before training."""

    def loss(student_logits: Tensor, batch: Batch):
        return unchecked_distillation_loss(
            student_logits,
            teacher_logits[batch.index],
            batch.labels,
            temperature,
            soft_weight,
        )

    return loss


def smooth_loss(smoothing: float) -> Loss:
    """Cross-entropy with smoothed labels: no teacher, but no hard target either."""

    def loss(student_logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(student_logits, batch.labels, label_smoothing=smoothing)

    return loss


def class_means(
    train_logits: Tensor, labels: Tensor, temperature: float, *, flat: bool
) -> Tensor:
    """Logits whose soft target at that temperature is the mean of the image's class.

    Args:
        train_logits: the teacher's, row by row those of one training image.
        labels: of these images.
        temperature: at which the student will learn.
        flat: keep the mean probability of the label, and share the rest out evenly.
    """
    soft = soften(train_logits, temperature)
    means = torch.stack([soft[labels == digit].mean(dim=0) for digit in range(10)])
    if flat:
        height = means.diag()[:, None]
        rest = (1 - height) / (len(means) - 1)
        means = torch.where(torch.eye(len(means), dtype=torch.bool), height, rest)
    return temperature * means[labels].log()


def learn(
    seed: int,
    train: Split,
    loss,
    *,
    lr: float,
    units: int = UNITS,
    epochs: int = EPOCHS,
    beside: Tensor | None = None,
    augment=None,
) -> dict:
    """Train a student; what it does on validation, also beside a teacher's logits."""
    student = seeded(partial(MLP, (units,)), seed)
    config = TrainConfig(epochs=epochs, lr=lr, seed=seed, batch_size=BATCH)
    val = mnist().val
    try:
        fit(student, train, None, config, loss=loss, augment=augment)
    except TrainingError:  # too large a step: as bad as can be
        return {"val_errors": len(val), "diverged": True}
    found = predict_logits(student, val.images)
    run = {
        "val_errors": int((found.argmax(dim=1) != val.labels).sum()),
        "val_nll": round(negative_log_likelihood(found, val.labels), 5),
        "val_ece": round(expected_calibration_error(found, val.labels), 5),
    }
    if beside is not None:
        run["agreement"] = round(agreement(found, beside), 5)
    return run


def compare(
    experiment: str,
    train: Callable[..., dict],
    options: Sequence[dict] = RATES,
    seeds: Sequence[int] = SEEDS,
    choice_seeds: Sequence[int] = CHOICE_SEEDS,
    **settings,
) -> None:
    """One line of a table: choose among the options, then run the best with all seeds.

    ``train(seed, **settings, **option)`` gives what the run measured.
    """
    means = []
    for option in options if len(options) > 1 else ():
        key = {"experiment": experiment, "stage": "choose", **settings, **option}
        for seed in choice_seeds:
            with LOG.claim(**key, seed=seed) as run:
                if run:
                    run |= train(seed, **settings, **option)
        found = [run["val_errors"] for run in LOG.runs(**key)]
        if len(found) < len(choice_seeds):
            return  # another process is at one of them and will go on with it
        means.append(sum(found) / len(found))
    best = options[means.index(min(means))] if means else options[0]
    for seed in seeds:
        key = {"experiment": experiment, "stage": "measure", **settings, **best}
        with LOG.claim(**key, seed=seed) as run:
            if run:
                run |= train(seed, **settings, **best)


def record_teacher(
    experiment: str, network: Callable[[], nn.Module], **settings
) -> None:
    """What a teacher itself does on validation."""
    with LOG.claim(experiment=experiment, stage="teacher", **settings) as run:
        if run:
            found, val = logits_of(network())[1], mnist().val
            run["val_errors"] = int((found.argmax(dim=1) != val.labels).sum())
            run["val_nll"] = round(negative_log_likelihood(found, val.labels), 5)


def on_labels(seed: int, lr: float, **student) -> dict:
    """The student without a teacher; the CNN's answers only to compare with."""
    student.pop("model", None)
    beside = logits("CNN", of(seed))[1]
    return learn(seed, mnist().train, hard_loss, lr=lr, beside=beside, **student)


def on_teacher(
    seed: int,
    lr: float,
    temperature: float,
    soft_weight: float,
    teacher="CNN",
    **student,
) -> dict:
    """The student of a teacher, on the training images as they are."""
    student.pop("model", None)
    train_logits, val_logits = logits(teacher, of(seed))
    loss = soft_loss(train_logits, temperature, soft_weight)
    return learn(seed, mnist().train, loss, lr=lr, beside=val_logits, **student)


# --- the experiments ---


def controls() -> None:
    """What else could explain the gain, other than what the teacher knows."""
    train = mnist().train
    compare("controls", on_labels, model="labels")
    compare("controls", on_teacher, model="distilled", **SOFT)
    own = SOFT | {"teacher": "MLP 128"}
    compare("controls", on_teacher, model="born again", **own)

    def smoothed(seed, lr, smoothing, model):
        beside = logits("CNN", of(seed))[1]
        return learn(seed, train, smooth_loss(smoothing), lr=lr, beside=beside)

    rates = [
        {**rate, "smoothing": e} for rate, e in product(RATES, (0.02, 0.05, 0.1, 0.2))
    ]
    compare("controls", smoothed, rates, model="label smoothing")

    def shuffled(seed, lr, temperature, soft_weight, model):
        generator = torch.Generator().manual_seed(seed)
        train_logits, val_logits = logits("CNN", of(seed))
        order = torch.randperm(len(train), generator=generator)
        if model == "shuffled within each class":
            # Row by row another image of the same class: what the teacher knows of the
            # classes stays, what it knows of the single image goes.
            source = torch.empty_like(order)
            for digit in range(10):
                places = (train.labels == digit).nonzero()[:, 0]
                source[places] = order[train.labels[order] == digit]
            order = source
        loss = soft_loss(train_logits[order], temperature, soft_weight)
        return learn(seed, train, loss, lr=lr, beside=val_logits)

    compare("controls", shuffled, model="shuffled within each class", **SOFT)

    def averaged(seed, lr, temperature, soft_weight, model):
        train_logits, val_logits = logits("CNN", of(seed))
        flat = model == "class mean, flat rest"
        rows = class_means(train_logits, train.labels, temperature, flat=flat)
        loss = soft_loss(rows, temperature, soft_weight)
        return learn(seed, train, loss, lr=lr, beside=val_logits)

    for model in ("class mean", "class mean, flat rest"):
        compare("controls", averaged, model=model, **SOFT)
    half = SOFT | {"soft_weight": 0.5}
    compare("controls", on_teacher, model="distilled, half labels", **half)
    compare("controls", shuffled, model="shuffled over all images", **half)
    untrained = half | {"teacher": "untrained CNN"}
    compare("controls", on_teacher, model="untrained teacher", **untrained)


def grid() -> None:
    """Temperature × soft weight."""
    for weight, temperature in product(
        (0.1, 0.5, 0.9, 1.0), (1.0, 2.0, 3.0, 4.0, 8.0, 20.0)
    ):
        soft = {"temperature": temperature, "soft_weight": weight}
        compare("grid", on_teacher, rates_for(temperature), **FEW, **soft)


def width() -> None:
    """How wide the student is × temperature."""
    for units in (8, 16, 32, 64, 128):
        compare("width", on_labels, **FEW, model="labels", units=units)
        for temperature in (1.0, 2.0, 4.0, 8.0, 20.0):
            soft = SOFT | {"temperature": temperature}
            compare(
                "width",
                on_teacher,
                rates_for(temperature),
                **FEW,
                units=units,
                model="distilled",
                **soft,
            )


def gap() -> None:
    """A ladder of teachers for one small student."""
    names = [*TEACHERS, "3 × CNN", "assistant MLP 128"]
    for name in names:
        for seed in TEACHER_SEEDS:
            if name == "3 × CNN" and seed:
                continue
            network = partial(teacher, name, seed)
            record_teacher("gap", network, teacher=name, seed=seed)
            with LOG.claim(
                experiment="gap", stage="transfer", teacher=name, seed=seed
            ) as run:
                if run:
                    found, train = logits(name, seed)[0], mnist().train
                    wrong = found.argmax(dim=1) != train.labels
                    run["train_errors"] = int(wrong.sum())
    compare("gap", on_labels, model="labels", units=32)
    for name, temperature in product(names, (1.0, 3.0)):
        soft = SOFT | {"temperature": temperature}
        compare("gap", on_teacher, teacher=name, units=32, **soft)


def data() -> None:
    """From 100 labels to 50,000, and images without labels. All with equal steps."""
    everything = mnist().train

    def student(seed, lr, count, model):
        places, loss, beside = some(seed, count), hard_loss, None
        if model != "labels":
            if model in ("teacher of all labels", "class mean"):
                network = teacher("CNN", of(seed))
            else:
                network = teacher_of_some(seed, count)
            if model == "teacher of these labels, all images":
                places = torch.arange(len(everything))
            train_logits, beside = logits_of(network)
            if model == "class mean":
                temperature, labels = SOFT["temperature"], everything.labels
                train_logits = class_means(
                    train_logits, labels, temperature, flat=False
                )
            loss = soft_loss(train_logits[places], **SOFT)
        train = everything[places]
        epochs = epochs_for(len(train))
        return learn(seed, train, loss, lr=lr, epochs=epochs, beside=beside)

    for count in (100, 300, 1000, 3000, 10_000):
        for model in (
            "labels",
            "teacher of all labels",
            "teacher of these labels",
            "teacher of these labels, all images",
            "class mean",
        ):
            compare("data", student, **FEW, model=model, count=count)
        for seed in FEW_SEEDS:
            network = partial(teacher_of_some, seed, count)
            record_teacher("data", network, count=count, seed=seed)


def noise() -> None:
    """Wrong labels for teacher and student alike; validation has the true ones."""

    def student(seed, lr, noise, model, **option):
        train, beside = noisy(of(seed), noise), None
        augment = SHIFT if model == "labels, shifted" else None
        if model.startswith("labels"):
            loss = hard_loss
        elif model == "label smoothing":
            loss = smooth_loss(**option)
        else:
            train_logits, beside = logits_of(teacher_of_noise(of(seed), noise))
            loss = soft_loss(train_logits, **(SOFT | option))
        return learn(seed, train, loss, lr=lr, beside=beside, augment=augment)

    rates = [{"lr": lr} for lr in (0.02, 0.05, 0.1, 0.2)]
    smoothings = [a | {"smoothing": s} for a, s in product(rates, (0.1, 0.4))]
    for share in (0.2, 0.4, 0.6):
        few = FEW | {"noise": share}
        compare("noise", student, rates, model="labels", **few)
        compare("noise", student, rates, model="labels, shifted", **few)
        compare("noise", student, smoothings, model="label smoothing", **few)
        compare("noise", student, rates, model="distilled", **few)
        half = {"soft_weight": 0.5}
        compare("noise", student, rates, model="distilled, half labels", **few, **half)
        for seed in TEACHER_SEEDS:
            network = partial(teacher_of_noise, seed, share)
            record_teacher("noise", network, noise=share, seed=seed)


@cache
def fast_teacher(seed: int) -> nn.Module:
    """The CNN with its maps laid out so that small batches take half the time."""
    return teacher("CNN", seed).to(memory_format=torch.channels_last)


def patience() -> None:
    """More epochs, and shifted views, seen by both networks or by the student."""
    train = mnist().train

    def student(seed, lr, model, epochs):
        network = fast_teacher(of(seed))
        train_logits, val_logits = logits("CNN", of(seed))

        def same_view(student_logits: Tensor, batch: Batch):
            with torch.no_grad():
                found = network(batch.images)
            return unchecked_distillation_loss(
                student_logits, found, batch.labels, **SOFT
            )

        loss, augment = {
            "labels": (hard_loss, None),
            "labels, shifted": (hard_loss, SHIFT),
            "distilled": (soft_loss(train_logits, **SOFT), None),
            "distilled, only the student's view shifted": (
                soft_loss(train_logits, **SOFT),
                SHIFT,
            ),
            "distilled, same shifted view": (same_view, SHIFT),
        }[model]
        return learn(
            seed, train, loss, lr=lr, epochs=epochs, augment=augment, beside=val_logits
        )

    for epochs in (10, 30, 90):
        for model in (
            "labels",
            "labels, shifted",
            "distilled",
            "distilled, only the student's view shifted",
            "distilled, same shifted view",
        ):
            chosen = [
                run["lr"]
                for run in LOG.runs(experiment="patience", stage="measure", model=model)
            ]
            # The rate is chosen at the fewest epochs and kept: long runs are dear.
            rates = RATES if epochs == 10 else [{"lr": rate} for rate in chosen[:1]]
            if rates:
                compare(
                    "patience", student, rates, FEW_SEEDS, model=model, epochs=epochs
                )


def budget() -> None:
    """The student on labels, given more epochs."""
    # Teacher and distillation together cost the multiply–adds of some 190 epochs.
    for epochs in (20, 130):
        # The rate is chosen at the fewer epochs and kept, as in patience().
        chosen = [run["lr"] for run in LOG.runs(experiment="budget", stage="measure")]
        rates = RATES if epochs == 20 else [{"lr": rate} for rate in chosen[:1]]
        if rates:
            compare("budget", on_labels, rates, **FEW, model="labels", epochs=epochs)


if __name__ == "__main__":
    main(
        {
            "controls": controls,
            "gap": gap,
            "data": data,
            "grid": grid,
            "noise": noise,
            "width": width,
            "patience": patience,
            "budget": budget,
        }
    )
