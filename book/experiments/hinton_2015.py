"""Hinton, Vinyals & Dean 2015, section 3: their MNIST experiments, over several seeds.

    python book/experiments/hinton_2015.py                  all that is not recorded yet
    python book/experiments/hinton_2015.py faithful width   some of the experiments

Start it in several processes if you like: no run is made twice. Stopped anywhere, it
goes on from there. Results go to book/results/hinton-2015.json after every run.

Every setting is chosen on 10,000 validation images, by the runs called "choose …". The
other runs train on all 60,000 images and count errors on the test images.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from itertools import product

import torch
import torch.nn.functional as F
from filelock import FileLock
from runlog import RunLog
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kdutils import (
    MLP,
    DigitData,
    Split,
    TrainConfig,
    count_errors,
    distill,
    fit,
    hard_loss,
    load_dataset,
    predict_logits,
    random_shift,
)
from kdutils.models import MaxNormLinear
from kdutils.results import write_atomically

LOG = RunLog("hinton-2015")
TEACHER_SEEDS = (0, 1, 2)
STUDENT_SEEDS = range(10)
WIDTH_SEEDS = range(5)
OMITTED_SEEDS = range(5)
CHOICE_SEEDS = (100, 101, 102)  # apart from all seeds above

# The paper does not give these. Chosen on validation, by choose().
FAST = {"batch_size": 256, "precision": "bfloat16"}
TEACHER = {"dropout": 0.3, "input_dropout": 0.1, "lr": 0.1, "epochs": 100}
LABELS = {"lr": 0.2, "epochs": 30}
DISTILLED = {"lr": 0.02, "epochs": 60}
SOFT = {"temperature": 20.0, "soft_weight": 1.0}  # the temperature is the paper's
WIDTH = {"epochs": 20}

# Teachers that are regularised in other ways. "referred": the recipe to which the paper
# refers, arXiv 1207.0580, in a fraction of its epochs. "smoothing": as in Müller,
# Kornblith & Hinton 2019, arXiv 1906.02629, section 4.
TEACHERS = {
    "referred": {
        "dropout": 0.5,
        "input_dropout": 0.2,
        "lr": 1.0,  # the paper's is 10; from there this network does not learn
        "epochs": 200,
        "batch_size": 100,
        "referred": True,
    },
    "dropout": TEACHER,
    "smoothing": {
        "dropout": 0.0,
        "input_dropout": 0.0,
        "lr": 0.1,
        "epochs": 100,
        "label_smoothing": 0.1,
    },
}

WIDTHS = (30, 100, 300, 800)
TEMPERATURES = (1.0, 2.0, 2.5, 4.0, 8.0, 20.0)


@cache
def mnist() -> DigitData:
    """MNIST in three parts."""
    return load_dataset("mnist")


@cache
def all_train() -> Split:
    """The 60,000 training images: those to train on and those to choose on."""
    parts = mnist().train, mnist().val
    images = torch.cat([part.images for part in parts])
    return Split(images, torch.cat([part.labels for part in parts]))


def only(split: Split, classes: tuple[int, ...]) -> Split:
    """The examples of these classes."""
    return split[torch.isin(split.labels, torch.tensor(classes))]


def trained_teacher(seed: int, train: Split, settings: dict = TEACHER) -> MLP:
    """2×1200 units, on images that are shifted by up to two pixels."""
    name = teacher_name(seed, train, settings)
    settings = dict(settings)
    rates = {key: settings.pop(key) for key in ("dropout", "input_dropout")}
    smoothing = settings.pop("label_smoothing", 0.0)
    referred = settings.pop("referred", False)
    whole = settings.pop("whole", settings["epochs"])  # the run that these epochs begin
    config = TrainConfig(seed=seed, progress=True, **FAST | settings)

    def build() -> MLP:
        torch.manual_seed(seed)
        network = MLP((1200, 1200), **rates, max_norm=15**0.5)
        if referred:
            for layer in network:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.01)
                    nn.init.zeros_(layer.bias)
        return network

    def smoothed(logits: Tensor, batch) -> Tensor:
        return F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)

    how = {"loss": smoothed if smoothing else hard_loss}
    if referred:
        steps = whole * -(-len(train) // config.batch_size)
        how["optimizer"] = partial(GrowingMomentum, steps=steps)
        share = config.epochs / whole
        how["schedule"] = lambda done: 0.998 ** (3000 * share * done)
    shift = partial(random_shift, pixels=2)
    return LOG.kept(name, build, train, None, config, augment=shift, **how)


def teacher_name(seed: int, train: Split, settings: dict) -> str:
    """What a teacher's file is called."""
    return "-".join(map(str, ("teacher", seed, len(train), *settings.values())))


class GrowingMomentum(torch.optim.SGD):
    """Gradients averaged over a time that grows, as in arXiv 1207.0580, appendix A.

    The momentum p grows from 0.5 to 0.99 in the first sixth of the ``steps``, and the
    gradient counts 1 − p. In full, the rise takes 500 of 3,000 epochs.
    """

    def __init__(self, parameters, lr: float, weight_decay: float, steps: int):
        super().__init__(parameters, lr, momentum=0.5, dampening=0.5)
        for group in self.param_groups:
            group |= {"taken": 0, "rise": steps / 6}  # kept in checkpoints

    def step(self, closure: Callable | None = None) -> Tensor | None:
        """One step, at the momentum of its place in the run."""
        for group in self.param_groups:
            p = min(0.99, 0.5 + 0.49 * group["taken"] / group["rise"])
            group["momentum"] = group["dampening"] = p
            group["taken"] += 1
        return super().step(closure)


def student_of_labels(seed: int, train: Split, settings: dict, units=800) -> MLP:
    """Two hidden layers, nothing that regularises them, images as they are."""
    torch.manual_seed(seed)
    student = MLP((units, units))
    fit(student, train, None, TrainConfig(seed=seed, **FAST | settings))
    return student


def student_of(
    teacher: Callable[[], MLP], seed: int, train: Split, settings, soft, units=800
) -> MLP:
    """The same student, taught by the soft targets of ``teacher()``."""
    torch.manual_seed(seed)
    student = MLP((units, units))
    distill(
        student,
        teacher(),
        train,
        None,
        TrainConfig(seed=seed, **FAST | settings),
        **soft,
    )
    return student


def record(counted: str, split: Split, build: Callable[[], MLP], **settings) -> None:
    """Unless the run is recorded: build its network, count its errors on ``split``."""
    with LOG.claim(**settings) as run:
        if run:
            run[counted] = count_errors(build(), split)


def choose() -> None:
    """Learning rates and dropout of the three trainings, on validation."""
    train, val, seed = mnist().train, mnist().val, CHOICE_SEEDS[0]
    for other in (
        {"dropout": 0.5, "input_dropout": 0.2, "epochs": 100},
        {"dropout": 0.3, "input_dropout": 0.1, "epochs": 100},
        {"dropout": 0.3, "input_dropout": 0.1, "epochs": 200},
    ):
        settings = TEACHER | other
        build = partial(trained_teacher, seed, train, settings)
        this = {"experiment": "choose", "model": "teacher", "seed": seed}
        record("val_errors", val, build, **this, **settings)
    for lr in (0.05, 0.1, 0.2, 0.4):
        settings = LABELS | {"lr": lr}
        build = partial(student_of_labels, seed, train, settings)
        this = {"experiment": "choose", "model": "labels", "seed": seed}
        record("val_errors", val, build, **this, **settings)
    teacher = partial(trained_teacher, seed, train)
    others = [{"lr": lr} for lr in (0.005, 0.01, 0.02, 0.03, 0.05)]
    others += [{"epochs": 150}, {"precision": "float32"}]
    trials = [(DISTILLED | other, SOFT) for other in others]
    trials.append((DISTILLED, SOFT | {"soft_weight": 0.9}))
    for settings, soft in trials:
        build = partial(student_of, teacher, seed, train, settings, soft)
        # A student's errors belong to its teacher: with another one, choose again.
        this = {"experiment": "choose", "model": "distilled", "teacher": TEACHER}
        record("val_errors", val, build, **this, seed=seed, **settings, **soft)


def faithful() -> None:
    """The paper's protocol: three teachers, ten students of each kind."""
    train, test = all_train(), mnist().test
    for seed in TEACHER_SEEDS:
        build = partial(trained_teacher, seed, train)
        this = {"experiment": "faithful", "model": "teacher", "seed": seed}
        record("test_errors", test, build, **this, **TEACHER)
    store_logits(TEACHER_SEEDS[0])
    for seed in STUDENT_SEEDS:
        build = partial(student_of_labels, seed, train, LABELS)
        this = {"experiment": "faithful", "model": "labels", "seed": seed}
        record("test_errors", test, build, **this, **LABELS)
        of = TEACHER_SEEDS[seed % len(TEACHER_SEEDS)]
        teacher = partial(trained_teacher, of, train)
        build = partial(student_of, teacher, seed, train, DISTILLED, SOFT)
        this = {"experiment": "faithful", "model": "distilled", "seed": seed}
        record("test_errors", test, build, **this, teacher_seed=of, **DISTILLED, **SOFT)


def store_logits(seed: int) -> None:
    """A teacher's logits for the 60,000 images, for whoever trains a student again.

    The teacher itself has nine megabytes, its logits in half precision have one.
    """
    path = LOG.path.with_name(f"{LOG.path.stem}-teacher-logits.safetensors")
    if not path.exists():
        logits = predict_logits(trained_teacher(seed, all_train()), all_train().images)
        write_atomically(path, save({"logits": logits.half()}))


# --- labels and soft targets together, from teachers of three kinds ---

# Rates to try for each weight of the labels beside a soft term of weight 1.
RATES = {
    0.0: (0.01, 0.02, 0.04),
    0.5: (0.015, 0.03),
    10.0: (0.05, 0.1, 0.2),
    40.0: (0.1, 0.2),
    400.0: (0.1, 0.2, 0.4),
}
# The first of CHOICE_SEEDS chooses among the rates, these among the weights.
MORE_CHOICE_SEEDS = range(101, 106)


def teachers() -> None:
    """Teachers of each kind: three to choose with, three for the final students."""
    seeds = (*CHOICE_SEEDS, *TEACHER_SEEDS)
    wanted = [(kind, TEACHERS[kind], seed) for kind in TEACHERS for seed in seeds]
    faster = TEACHERS["referred"] | {"lr": 2.0}
    for kind, settings, seed in [("referred", faster, CHOICE_SEEDS[0]), *wanted]:
        chooses = seed in CHOICE_SEEDS
        train = mnist().train if chooses else all_train()
        with LOG.claim(experiment="teachers", kind=kind, seed=seed, **settings) as run:
            if run:
                network = trained_teacher(seed, train, settings)
                logits = predict_logits(network, train.images)
                run["train_errors"] = int((logits.argmax(1) != train.labels).sum())
                run["confidence"] = logits.softmax(1).amax(1).mean().item()
                hidden = [part for part in network if isinstance(part, MaxNormLinear)]
                run["longest"] = [
                    part.weight.norm(dim=1).max().item() for part in hidden
                ]
                counted = "val_errors" if chooses else "test_errors"
                held_out = mnist().val if chooses else mnist().test
                run[counted] = count_errors(network, held_out)


def referred_rates() -> None:
    """How the first two epochs of the referred recipe go from a higher rate."""
    train, val, seed = mnist().train, mnist().val, CHOICE_SEEDS[0]
    for lr in (1.0, 3.0, 10.0):
        settings = TEACHERS["referred"] | {"lr": lr, "epochs": 2, "whole": 200}
        key = {"experiment": "referred rates", "seed": seed, **settings}
        build = partial(trained_teacher, seed, train, settings)
        record("val_errors", val, build, **key)


def weighed(label_weight: float, lr: float) -> tuple[dict, dict]:
    """Settings of a student whose soft term weighs 1 and whose labels weigh this."""
    soft = SOFT | {"soft_weight": 1 / (1 + label_weight)}
    return DISTILLED | {"lr": lr}, soft


def try_both(kind: str, label_weight: float, lr: float, seed: int) -> int | None:
    """Validation errors of one student; None while another process is at it."""
    settings, soft = weighed(label_weight, lr)
    of = CHOICE_SEEDS[seed % len(CHOICE_SEEDS)]
    key = {"experiment": "choose both", "kind": kind, "label_weight": label_weight}
    key |= {"seed": seed, "teacher": TEACHERS[kind], "teacher_seed": of}
    key |= {**settings, **soft}
    teacher = partial(trained_teacher, of, mnist().train, TEACHERS[kind])
    build = partial(student_of, teacher, seed, mnist().train, settings, soft)
    record("val_errors", mnist().val, build, **key)
    return next((run["val_errors"] for run in LOG.runs(**key)), None)


def best_rate(kind: str, label_weight: float) -> float | None:
    """The rate that the first seed chose; None while a run is missing."""
    tried = {
        lr: try_both(kind, label_weight, lr, CHOICE_SEEDS[0])
        for lr in RATES[label_weight]
    }
    return None if None in tried.values() else min(tried, key=tried.get)


def choose_both() -> None:
    """The weight of the labels in the loss, and the rate that goes with it."""
    for kind in TEACHERS:
        for label_weight in RATES:
            best_rate(kind, label_weight)
    for kind in TEACHERS:
        for label_weight in RATES:
            lr = best_rate(kind, label_weight)
            if lr is not None:
                for seed in MORE_CHOICE_SEEDS:
                    try_both(kind, label_weight, lr, seed)


def both() -> None:
    """Ten students with labels in their loss, and ten without, on the test set.

    Their teachers are of the kind whose students made the fewest validation errors. So
    did the weight of the labels, among those above 0.
    """
    train, test, kind = all_train(), mnist().test, "dropout"
    chosen = chosen_weight(kind)
    if chosen is None:
        return  # another process is at a choice and will go on with it
    for seed, label_weight in product(STUDENT_SEEDS, (0.0, chosen)):
        settings, soft = weighed(label_weight, best_rate(kind, label_weight))
        of = TEACHER_SEEDS[seed % len(TEACHER_SEEDS)]
        key = {"experiment": "both", "kind": kind, "label_weight": label_weight}
        key |= {"seed": seed, "teacher": TEACHERS[kind], "teacher_seed": of}
        with LOG.claim(**key, **settings, **soft) as run:
            if run:
                logits = kept_logits(of, train, TEACHERS[kind])
                torch.manual_seed(seed)
                student = MLP((800, 800))
                config = TrainConfig(seed=seed, **FAST | settings)
                answers = {"teacher_logits": logits, **soft}
                distill(student, None, train, None, config, **answers)
                run["test_errors"] = count_errors(student, test)


def kept_logits(seed: int, train: Split, settings: dict) -> Tensor:
    """A teacher's logits, in half precision from the scratch folder.

    They are a ninth of the teacher itself, and all that a student needs of it.
    """
    path = LOG.scratch / f"logits-{teacher_name(seed, train, settings)}.safetensors"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            teacher = trained_teacher(seed, train, settings)
            logits = predict_logits(teacher, train.images).half()
            write_atomically(path, save({"logits": logits}))
    return load_file(path)["logits"].float()


def chosen_weight(kind: str) -> float | None:
    """Above 0, with the fewest validation errors; None while a run is missing."""
    means = {}
    for label_weight in RATES:
        lr = best_rate(kind, label_weight)
        tried = [
            None if lr is None else try_both(kind, label_weight, lr, seed)
            for seed in MORE_CHOICE_SEEDS
        ]
        if None in tried:
            return None
        means[label_weight] = sum(tried) / len(tried)
    del means[0.0]
    return min(means, key=means.get)


def width() -> None:
    """Which temperature for which width; each cell of the table at its best rate."""
    train, val, test = mnist().train, mnist().val, mnist().test
    chooser = CHOICE_SEEDS[0]
    teacher = partial(trained_teacher, chooser, train)
    final_teacher = partial(trained_teacher, TEACHER_SEEDS[0], all_train())
    for units in WIDTHS:
        for temperature in TEMPERATURES:
            soft = SOFT | {"temperature": temperature}
            errors = {}
            for lr in (0.01, 0.03, 0.1):
                key = {
                    "experiment": "choose width",
                    "model": "distilled",
                    "units": units,
                    "seed": chooser,
                    "lr": lr,
                    **WIDTH,
                    **soft,
                }
                rate = WIDTH | {"lr": lr}
                build = partial(student_of, teacher, chooser, train, rate, soft, units)
                record("val_errors", val, build, **key)
                for run in LOG.runs(**key):
                    errors[lr] = run["val_errors"]
            if len(errors) < 3:
                continue  # another process is at one of them and will go on with it
            settings = WIDTH | {"lr": min(errors, key=errors.get)}
            for seed in WIDTH_SEEDS:
                student = (seed, all_train(), settings, soft, units)
                build = partial(student_of, final_teacher, *student)
                this = {"experiment": "width", "model": "distilled", "units": units}
                this |= {"seed": seed, "teacher_seed": TEACHER_SEEDS[0]}
                record("test_errors", test, build, **this, **settings, **soft)


# --- digits that the student never sees ---

BIASES = torch.arange(0, 20.25, 0.25)


def bias_sweep(logits: Tensor, split: Split, omitted: tuple[int, ...]) -> list:
    """Errors, and errors on the omitted digits, when a bias moves towards those digits.

    As in the paper: with most digits kept, the omitted ones' bias is raised; with most
    omitted, the kept ones' is lowered. Both are a shift in favour of the omitted.
    """
    rows = []
    for bias in BIASES.tolist():
        shifted = logits.clone()
        shifted[:, list(omitted)] += bias
        wrong = shifted.argmax(dim=1) != split.labels
        on_omitted = wrong & torch.isin(split.labels, torch.tensor(omitted))
        rows.append([bias, int(wrong.sum()), int(on_omitted.sum())])
    return rows


def omitted() -> None:
    """No 3 in the transfer set; then nothing but 7 and 8."""
    digits = set(range(10))
    for missing in ((3,), (0, 1, 2, 3, 4, 5, 6, 9)):
        kept = tuple(sorted(digits - set(missing)))
        # The bias that is best on validation, for other students than those below.
        chosen = []
        for seed in CHOICE_SEEDS:
            key = {
                "experiment": "choose omitted",
                "omitted": list(missing),
                "seed": seed,
                **DISTILLED,
                **SOFT,
            }
            with LOG.claim(**key) as run:
                if run:
                    teacher = partial(trained_teacher, CHOICE_SEEDS[0], mnist().train)
                    transfer = only(mnist().train, kept)
                    student = student_of(teacher, seed, transfer, DISTILLED, SOFT)
                    logits = predict_logits(student, mnist().val.images)
                    sweep = bias_sweep(logits, mnist().val, missing)
                    run["bias"] = min(sweep, key=lambda row: row[1])[0]
                    run["bias_sweep"] = sweep
            chosen += [run["bias"] for run in LOG.runs(**key)]
        if len(chosen) < len(CHOICE_SEEDS):
            continue  # another process is at one of them and will go on with it
        bias = round(sum(chosen) / len(chosen) * 4) / 4
        for seed in OMITTED_SEEDS:
            of = TEACHER_SEEDS[seed % len(TEACHER_SEEDS)]
            with LOG.claim(
                experiment="omitted",
                model="distilled",
                omitted=list(missing),
                seed=seed,
                teacher_seed=of,
                bias=bias,
                **DISTILLED,
                **SOFT,
            ) as run:
                if run:
                    teacher = partial(trained_teacher, of, all_train())
                    transfer = only(all_train(), kept)
                    student = student_of(teacher, seed, transfer, DISTILLED, SOFT)
                    logits = predict_logits(student, mnist().test.images)
                    sweep = bias_sweep(logits, mnist().test, missing)
                    at = {row[0]: row[1:] for row in sweep}
                    run["test_errors"], run["errors_on_omitted"] = at[0.0]
                    run["corrected_errors"], run["corrected_errors_on_omitted"] = at[
                        bias
                    ]
                    run["bias_sweep"] = sweep


def main(experiments: dict[str, Callable[[], None]]) -> None:
    """Run the experiments named on the command line, or all of them."""
    names = sys.argv[1:] or list(experiments)
    unknown = [name for name in names if name not in experiments]
    if unknown:
        sys.exit(f"unknown experiment {', '.join(unknown)}: take {list(experiments)}")
    for name in names:
        experiments[name]()


if __name__ == "__main__":
    main(
        {
            "choose": choose,
            "faithful": faithful,
            "teachers": teachers,
            "referred-rates": referred_rates,
            "choose-both": choose_both,
            "both": both,
            "width": width,
            "omitted": omitted,
        }
    )
