"""train.py: the student learns what it should, nobody else is touched, and a run that is cut short loses nothing."""

import copy
import itertools
import math
import multiprocessing
import os
import pickle
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdutils import (
    MLP,
    Split,
    TrainConfig,
    TrainingError,
    cache_logits,
    count_errors,
    distill,
    fit,
    freeze,
    hard_loss,
    kd_loss,
    load_dataset,
    pick_device,
    predict_logits,
    random_shift,
    reverse_kd_loss,
    warmup,
)

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["kdutils"])


def load_digits() -> tuple[Split, Split]:
    """960 = 15 · 64 examples to train on, so that every batch is full, and 300 to validate."""
    loaded = load_dataset("digits")
    return loaded.train[:960], loaded.val


TRAIN, VAL = load_digits()

pytestmark = pytest.mark.usefixtures("one_thread")


def config(**changes) -> TrainConfig:
    return TrainConfig(**({"epochs": 2, "batch_size": 64, "lr": 0.05, "device": "cpu"} | changes))


def network(seed: int = 0, **settings) -> MLP:
    torch.manual_seed(seed)
    return MLP((16,), **settings)


def unchanged(images, *, generator):
    return images


def jitter(images, *, generator):
    return random_shift(images, 2, generator)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


class Spy(nn.Module):
    """Passes everything through and remembers the images, the mode and whether gradients were on."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.images, self.training_mode, self.gradients = inner, [], [], []

    def forward(self, images):
        self.images.append(images.clone())
        self.training_mode.append(self.training)
        self.gradients.append(torch.is_grad_enabled())
        return self.inner(images)


# What is learnt


def test_fit_learns_digits_and_reports_on_every_epoch():
    model = network()
    history = fit(model, TRAIN, VAL, config(epochs=8))
    for values in (history.loss, history.val_loss, history.val_errors, history.seconds):
        assert len(values) == 8
    assert history.loss[-1] < history.loss[0] and history.val_errors[-1] < 60  # of 300; guessing makes 270
    assert history.val_errors[-1] == count_errors(model, VAL)
    assert history.val_loss[-1] == pytest.approx(F.cross_entropy(model(VAL.images), VAL.labels).item())
    assert history.soft == history.hard == [] and history.device == "cpu"


@pytest.mark.parametrize("temperature, soft_weight", [(4.0, 0.7), (1.0, 1.0), (20, 0)])
def test_distill_does_what_a_plain_loop_written_out_does(temperature, soft_weight):
    teacher, student = network(1), network(2)
    plain = copy.deepcopy(student)
    settings = config(epochs=3, momentum=0.8, weight_decay=0.01, seed=5)
    distill(student, teacher, TRAIN, VAL, settings, temperature=temperature, soft_weight=soft_weight)

    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01)
    shuffle = torch.Generator().manual_seed(5)
    for epoch in range(3):
        for step, index in enumerate(torch.randperm(960, generator=shuffle).split(64)):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - (15 * epoch + step) / 45)
            s, t = plain(TRAIN.images[index]), teacher(TRAIN.images[index]).detach()
            p, log_q = F.softmax(t / temperature, dim=1), F.log_softmax(s / temperature, dim=1)
            soft = temperature**2 * (p * (p.log() - log_q)).sum() / 64
            hard = -F.log_softmax(s, dim=1)[torch.arange(64), TRAIN.labels[index]].mean()
            optimizer.zero_grad()
            (soft_weight * soft + (1 - soft_weight) * hard).backward()
            optimizer.step()
    for learnt, expected in zip(student.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(learnt, expected, rtol=1e-4, atol=1e-5)


def test_history_holds_both_terms_and_total_mixes_them():
    teacher, student = network(1), network(2)
    before = copy.deepcopy(student)
    history = distill(student, teacher, TRAIN, VAL, config(), temperature=3.0, soft_weight=0.7)
    for total, soft, hard in zip(history.loss, history.soft, history.hard, strict=True):
        assert total == pytest.approx(0.7 * soft + 0.3 * hard, rel=1e-5)
    assert not same(student, before)


def test_each_example_meets_its_own_teacher_logits_though_the_order_is_shuffled():
    teacher, student = network(1), network(2)
    fit(teacher, TRAIN, VAL, config(epochs=5))
    expected = kd_loss(predict_logits(student, TRAIN.images), predict_logits(teacher, TRAIN.images), 2.0)
    crawl = config(epochs=1, lr=1e-12)  # the student stays as it is: the epoch's mean is the loss of the whole set
    for augment in (None, unchanged):
        history = distill(student, teacher, TRAIN, VAL, crawl, temperature=2.0, augment=augment)
        assert history.soft == [pytest.approx(expected.item(), rel=1e-5)]


def whole_number_teacher() -> MLP:
    """Its weights are −1, 0 and 1, so that with images in steps of 1/16 every sum is exact in float32: then cached
    and online logits are the same bits whatever order a processor adds in, and a difference is a mistake of ours."""
    teacher = network(1)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape, generator=torch.Generator().manual_seed(0)))
    return teacher


def test_cached_equals_online_to_the_last_bit_without_augmentation():
    images = Split((TRAIN.images * 16).round() / 16, TRAIN.labels)
    cached, online = network(2, dropout=0.3), network(2, dropout=0.3)
    spies = Spy(whole_number_teacher()), Spy(whole_number_teacher())
    one = distill(cached, spies[0], images, VAL, config(), temperature=20.0)
    two = distill(online, spies[1], images, VAL, config(), temperature=20.0, augment=unchanged)
    assert same(cached, online) and (one.loss, one.val_loss) == (two.loss, two.val_loss)
    # One image is looked at, to see how much there is to keep; then all, in parts. Online: 2 · 15 batches.
    assert [len(seen) for seen in spies[0].images] == [1, 250, 250, 250, 210]
    assert [len(seen) for seen in spies[1].images] == [64] * 30


def test_with_augmentation_teacher_and_student_see_the_same_views():
    teacher, student = Spy(network(1)), Spy(network(2))
    distill(student, teacher, TRAIN, VAL, config(), augment=jitter)
    seen = [images for images, training in zip(student.images, student.training_mode, strict=True) if training]
    assert len(seen) == 30 and all(map(torch.equal, seen, teacher.images))
    originals = {image.numpy().tobytes() for image in TRAIN.images}
    assert sum(image.numpy().tobytes() in originals for image in torch.cat(seen)) < 0.2 * 2 * 960


def test_cached_logits_are_in_the_order_of_the_examples_and_must_be_finite():
    teacher = network(1)
    logits = cache_logits(teacher, TRAIN.images)
    assert logits.shape == (960, 10) and not logits.requires_grad
    torch.testing.assert_close(logits[700], teacher(TRAIN.images[700:701])[0])
    with pytest.raises(TrainingError, match="the teacher gives logits that are nan or infinite"):
        cache_logits(teacher, TRAIN.images / 0)


def test_validation_examples_are_never_learnt_from():
    one, two = network(), network()
    fit(one, TRAIN, VAL, config())
    fit(two, TRAIN, VAL[:5], config())
    assert same(one, two)


# Who is left alone


@pytest.fixture
def teacher() -> nn.Module:
    """With batch-norm and dropout, some of it in training mode and some frozen, as careless callers pass it."""
    torch.manual_seed(3)
    parts = [nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 16), nn.Dropout(0.5), nn.ReLU(), nn.BatchNorm1d(16)]
    teacher = nn.Sequential(*parts, nn.Linear(16, 10)).train()
    teacher(TRAIN.images[:100])  # buffers away from their first values
    freeze(teacher[1])
    teacher[2].weight.requires_grad_(False)
    return teacher


@pytest.mark.parametrize("augment", [None, jitter])
@pytest.mark.parametrize("fails", [False, True])
def test_the_teacher_comes_out_as_it_went_in(teacher, augment, fails):
    before = copy.deepcopy(teacher)
    parameters = list(teacher.parameters())
    try:
        distill(network(2), teacher, TRAIN, VAL, config(lr=1e30 if fails else 0.05), augment=augment)
        assert not fails
    except TrainingError:
        assert fails
    assert same(teacher, before)
    assert [m.training for m in teacher.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in teacher.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(
        p is q and p.grad is None and p.device.type == "cpu"
        for p, q in zip(teacher.parameters(), parameters, strict=True)
    )


@pytest.mark.parametrize("augment", [None, jitter])
def test_the_teacher_always_runs_in_eval_mode_and_without_gradients(teacher, augment):
    spy = Spy(teacher).train()
    distill(network(2), spy, TRAIN, VAL, config(), augment=augment)
    assert not any(spy.training_mode) and not any(spy.gradients)
    assert spy.training


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_of_the_student_is_in_its_old_mode_afterwards(fails):
    torch.manual_seed(0)
    student = nn.Sequential(freeze(nn.Sequential(nn.Dropout(0.1), nn.Flatten())), nn.Linear(784, 10), nn.Dropout(0.1))
    student[2].eval()
    before = [module.training for module in student.modules()]
    assert len(set(before)) == 2
    if fails:
        with pytest.raises(TrainingError):
            fit(student, TRAIN, VAL, config(), loss=lambda logits, batch: logits.sum() * math.nan)
    else:
        fit(student, TRAIN, VAL, config())
    assert [module.training for module in student.modules()] == before


def test_dropout_is_on_while_training_whatever_mode_the_student_came_in():
    evaluating, training = network(0, dropout=0.5).eval(), network(0, dropout=0.5).train()
    without = network(0)
    for model in (evaluating, training, without):
        fit(model, TRAIN, VAL, config(epochs=1))
    assert same(evaluating, training)
    assert not torch.equal(evaluating[1].weight, without[1].weight)


def test_a_frozen_parameter_stays_though_weight_decay_is_on():
    model = network()
    model[1].requires_grad_(False)
    before = copy.deepcopy(model)
    fit(model, TRAIN, VAL, config(weight_decay=0.1))
    assert same(model[1], before[1]) and not same(model[3], before[3])


def test_freeze_turns_off_training_mode_and_gradients_everywhere(teacher):
    assert freeze(teacher) is teacher
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


# Seeds


def test_global_random_numbers_go_on_as_if_nothing_had_been_trained():
    student, teacher = network(2, dropout=0.5), network(1)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(11)
    expected = random.random(), np.random.rand(), torch.rand(3)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(11)
    distill(student, teacher, TRAIN, VAL, config(), augment=jitter)
    assert (random.random(), np.random.rand()) == expected[:2] and torch.equal(torch.rand(3), expected[2])


def train_student(seed: int = 0, checkpoint: Path | None = None, augment=jitter, epochs: int = 5):
    """A run that uses every source of randomness: order, augmentation, both kinds of dropout."""
    teacher, student = network(1), network(2, dropout=0.5, input_dropout=0.2)
    settings = config(seed=seed, epochs=epochs, weight_decay=1e-4)
    torch.seed()  # where the global random numbers stand must not matter
    options = {"augment": augment, "checkpoint": checkpoint, "run_name": "jittered"}
    return student, distill(student, teacher, TRAIN, VAL, settings, **options)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    one, history = train_student(seed=4, epochs=2)
    two, again = train_student(seed=4, epochs=2)
    assert same(one, two) and history.loss == again.loss
    assert not same(one, train_student(seed=5, epochs=2)[0])


# Checkpoints


def train_and_hang(checkpoint: Path, reached: Path) -> None:
    """Stop for good in the middle of the third epoch."""
    torch.set_num_threads(1)
    batch = itertools.count(1)

    def hang(images, *, generator):
        if next(batch) == 2 * 15 + 7:
            reached.touch()
            time.sleep(600)
        return jitter(images, generator=generator)

    train_student(checkpoint=checkpoint, augment=hang)


def test_killed_in_mid_run_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path):
    checkpoint, reached = tmp_path / "run.ckpt", tmp_path / "reached"
    process = PROCESSES.Process(target=train_and_hang, args=(checkpoint, reached))
    process.start()
    deadline = time.monotonic() + 120
    while not reached.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL and reached.exists()
    kept = torch.load(checkpoint, weights_only=True)["history"]
    assert len(kept["loss"]) == 2

    resumed, history = train_student(checkpoint=checkpoint)
    uninterrupted, expected = train_student()
    assert same(resumed, uninterrupted)
    for name in ("loss", "soft", "hard", "val_loss", "val_errors"):
        assert getattr(history, name) == getattr(expected, name)
    assert history.seconds[:2] == kept["seconds"] and len(history.seconds) == 5
    assert sorted(os.listdir(tmp_path)) == ["reached", "run.ckpt"]


def test_a_finished_checkpoint_gives_the_result_back_without_training(tmp_path):
    done, history = train_student(checkpoint=tmp_path / "run.ckpt", epochs=2)
    again, same_history = train_student(checkpoint=tmp_path / "run.ckpt", epochs=2)
    assert same(done, again) and history == same_history


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files exist on POSIX systems only")
def test_a_checkpoint_cut_off_by_a_full_disk_never_replaces_the_good_one(tmp_path):
    import resource

    checkpoint = tmp_path / "run.ckpt"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    step, good = itertools.count(), []

    def run(loss) -> nn.Module:
        model = network()
        fit(model, TRAIN, VAL, config(epochs=3), loss=loss, checkpoint=checkpoint, run_name="labels")
        return model

    def full_from_second_epoch(logits, batch):
        if next(step) == 15:
            good.append(checkpoint.read_bytes())
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(good[0]) // 2, before[1]))
        return hard_loss(logits, batch)

    try:
        with pytest.raises(TrainingError, match=f"could not save epoch 2 to {checkpoint}: .*make room and run again"):
            run(loss=full_from_second_epoch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [checkpoint.read_bytes()] == good and os.listdir(tmp_path) == ["run.ckpt"]
    resumed, uninterrupted = run(loss=hard_loss), network()
    fit(uninterrupted, TRAIN, VAL, config(epochs=3))
    assert same(resumed, uninterrupted)


def test_a_checkpoint_that_can_never_be_saved_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    model = network()
    for place, complaint in (
        (tmp_path / "absent" / "run.ckpt", f"there is no folder {tmp_path / 'absent'}. Make it first"),
        (tmp_path, "is a folder: name a file in it"),
        (tmp_path / "locked" / "run.ckpt", "cannot be written to"),
    ):
        if "locked" in str(place) and os.geteuid() == 0:
            continue  # root may write anywhere
        with pytest.raises(ValueError, match=complaint):
            fit(model, TRAIN, VAL, config(), checkpoint=place)
    assert same(model, network())


class Payload:
    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", ["half", "empty", "text", "pickle", "weights", "payload"])
def test_a_damaged_or_foreign_checkpoint_is_refused_and_kept(tmp_path, content):
    checkpoint, trap = tmp_path / "run.ckpt", tmp_path / "ran"
    model = network()
    fit(network(), TRAIN[:64], VAL, config(epochs=1), checkpoint=checkpoint)
    whole = checkpoint.read_bytes()
    if content == "weights":
        torch.save(model.state_dict(), checkpoint)
    elif content == "payload":
        torch.save({"identity": Payload(trap)}, checkpoint)
    else:
        pickled = pickle.dumps({"identity": Payload(trap)})
        checkpoint.write_bytes(
            {"half": whole[: len(whole) // 2], "empty": b"", "text": b"no", "pickle": pickled}[content]
        )
    before, weights = checkpoint.read_bytes(), copy.deepcopy(model)
    with pytest.raises(ValueError, match=f"{checkpoint} is not a checkpoint .* or is damaged .*name another"):
        fit(model, TRAIN[:64], VAL, config(epochs=1), checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before and same(model, weights) and not trap.exists()


OTHER_RUNS = {
    "lr was 0.05, is 0.1": {"settings": config(lr=0.1)},
    "seed was 0, is 1": {"settings": config(seed=1)},
    "epochs was 2, is 3": {"settings": config(epochs=3)},
    "batch_size was 64, is 32": {"settings": config(batch_size=32)},
    "temperature was 4.0, is 2.0": {"temperature": 2.0},
    "soft_weight was 0.9, is 0.5": {"soft_weight": 0.5},
    "teacher was": {"teacher": network(9)},
    "initial weights was": {"student": network(9)},
    "examples was": {"train": Split(TRAIN.images, TRAIN.labels.flip(0))},
    "augment was 'None', is": {"augment": jitter},
    "schedule was 'kdutils.config.falling', is 'kdutils.config._rise_and_fall(share=0.1)'": {"schedule": warmup(0.1)},
    "optimizer was 'None', is 'torch.optim.adamw.AdamW'": {"optimizer": torch.optim.AdamW},
    "soft_loss was 'None', is 'kdutils.losses.reverse_kd_loss'": {"soft_loss": reverse_kd_loss},
}


@pytest.mark.parametrize("difference", OTHER_RUNS)
def test_the_checkpoint_of_another_run_is_refused_by_its_difference(tmp_path, difference):
    checkpoint = tmp_path / "run.ckpt"

    def run(student=None, teacher=None, train=TRAIN, settings=None, **more):
        student, teacher = student or network(2), teacher or network(1)
        return distill(student, teacher, train, VAL, settings or config(), checkpoint=checkpoint, **more)

    run()
    with pytest.raises(ValueError) as caught:
        run(**OTHER_RUNS[difference])
    message = str(caught.value)
    assert message.startswith(f"{checkpoint} belongs to another run: {difference}") and message.count(" was ") == 1
    assert "Name another file" in message and "Delete" not in message
    assert ("pass extend=True" in message) == ("epochs" in difference)


def test_a_shift_of_another_size_is_another_run(tmp_path):
    def run(pixels):
        augment = partial(random_shift, pixels=pixels)
        fit(network(), TRAIN, VAL, config(epochs=1), augment=augment, checkpoint=tmp_path / "run.ckpt")

    run(2)
    with pytest.raises(ValueError, match="augment was .*2.*, is .*1"):
        run(1)


def scaled(factor, logits, batch):
    return factor * hard_loss(logits, batch)


def test_a_checkpoint_tells_functions_apart_or_asks_for_a_name(tmp_path):
    class Smooth:
        def __call__(self, logits, batch):
            return F.cross_entropy(logits, batch.labels, label_smoothing=0.1)

    def closure(temperature):
        return lambda logits, batch: F.cross_entropy(logits / temperature, batch.labels)

    def run(loss, **options):
        settings = config(epochs=1)
        return fit(network(), TRAIN[:64], VAL, settings, loss=loss, checkpoint=tmp_path / "run.ckpt", **options)

    assert run(partial(scaled, 0.5)) == run(partial(scaled, 0.5))
    with pytest.raises(ValueError, match=r"loss was '.*scaled\(0.5\)', is '.*scaled\(0.6\)'"):
        run(partial(scaled, 0.6))
    # Two of these look alike, and a run with the one took the other's file for its own.
    for unknown in (closure(1.0), closure(8.0), Smooth(), partial(closure(1.0))):
        with pytest.raises(ValueError, match='loss is .* cannot tell from another .* pass run_name="…"'):
            run(unknown)
    (tmp_path / "run.ckpt").unlink()
    named = run(closure(1.0), run_name="T = 1")
    assert named == run(closure(1.0), run_name="T = 1")
    with pytest.raises(ValueError, match="run_name was 'T = 1', is 'T = 8'"):
        run(closure(8.0), run_name="T = 8")


# What goes wrong in time


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_epoch_and_step(value, tmp_path):
    step = itertools.count(1)

    def breaks(logits, batch):
        return hard_loss(logits, batch) * (value if next(step) >= 15 + 4 else 1)

    with pytest.raises(TrainingError, match=rf"the loss became {value} in epoch 2, step 4 of 15: lower lr") as caught:
        fit(network(), TRAIN, VAL, config(), loss=breaks, checkpoint=tmp_path / "run.ckpt", run_name="breaks")
    assert len(caught.value.history.val_errors) == 1  # what was measured before is not lost
    assert len(torch.load(tmp_path / "run.ckpt", weights_only=True)["history"]["loss"]) == 1


@pytest.mark.parametrize("augment, complaint", [(None, "the teacher gives logits"), (jitter, "epoch 1, step 1 of 15")])
def test_a_teacher_that_gives_no_numbers_stops_the_run(augment, complaint):
    teacher = network(1)
    nn.init.constant_(teacher[3].weight, math.nan)
    with pytest.raises(TrainingError, match=complaint):
        distill(network(2), teacher, TRAIN, VAL, config(), augment=augment)


@pytest.mark.parametrize(
    "name, value",
    [("epochs", bad) for bad in (0, -1, 1.5, True, "3")]
    + [("batch_size", bad) for bad in (0, 2.0)]
    + [("lr", bad) for bad in (0, -0.1, math.nan, math.inf, "0.1")]
    + [("momentum", bad) for bad in (-0.1, 1.0, math.nan, None)]
    + [("weight_decay", bad) for bad in (-1e-4, math.nan, None)]
    + [("seed", bad) for bad in (-1, 1.5, "0", None)]
    + [("device", "gpu")],
)
def test_a_bad_setting_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        TrainConfig(**{name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("change", [{"temperature": 0}, {"temperature": math.nan}, {"soft_weight": 1.1}])
def test_a_bad_temperature_or_weight_is_named_before_anything_is_trained(change):
    student = network(2)
    with pytest.raises(ValueError, match=next(iter(change))):
        distill(student, network(1), TRAIN, VAL, config(), **change)
    assert same(student, network(2))


def test_a_student_that_is_or_holds_its_teacher_is_refused():
    teacher = network(1)
    for student in (teacher, nn.Sequential(teacher), nn.Sequential(nn.Flatten(), teacher[1], nn.Linear(16, 10))):
        with pytest.raises(ValueError, match="student and teacher share weights"):
            distill(student, teacher, TRAIN, VAL, config())


def test_a_student_may_stand_on_a_frozen_part_of_its_teacher():
    teacher = network(1)
    trunk = teacher[1].requires_grad_(False)
    before = copy.deepcopy(teacher)
    distill(nn.Sequential(nn.Flatten(), trunk, nn.ReLU(), nn.Linear(16, 10)), teacher, TRAIN, VAL, config())
    assert same(teacher, before)


def test_networks_with_other_classes_are_refused():
    with pytest.raises(ValueError, match="the same classes, got 10 and 7"):
        distill(network(2), network(1, num_classes=7), TRAIN, VAL, config())


@pytest.mark.parametrize(("train", "val", "empty"), [(TRAIN[:0], VAL, "train"), (TRAIN, VAL[:0], "val")])
@pytest.mark.parametrize("train_on", [fit, lambda student, *rest: distill(student, network(1), *rest)])
def test_a_split_without_examples_is_refused_before_anything_is_trained(train_on, train, val, empty):
    student = network(2)
    with pytest.raises(ValueError, match=f"^{empty} must hold at least one example, got none"):
        train_on(student, train, val, config())
    assert same(student, network(2))


def test_progress_is_plain_text_on_stderr_and_off_by_default(capsys):
    fit(network(), TRAIN, VAL, config())
    assert capsys.readouterr() == ("", "")
    fit(network(), TRAIN, VAL, config(progress=True))
    shown = capsys.readouterr().err
    assert "2/2" in shown and "loss=" in shown and "val_errors=" in shown


# Devices


@pytest.mark.parametrize(
    "cuda, mps, expected", [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device() == pick_device("auto") == torch.device(expected)
    assert pick_device("cpu") == torch.device("cpu")


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device must be \"auto\", .* got 'gpu'"):
        pick_device("gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_the_student_moves_there_and_the_teacher_comes_back(teacher):
    student = network(2)
    assert distill(student, teacher, TRAIN, VAL, config(device="cuda"), augment=jitter).device == "cuda"
    assert {p.device.type for p in student.parameters()} == {"cuda"}
    assert {p.device.type for p in teacher.parameters()} == {"cpu"}


# --- without validation ------------------------------------------------------------------------------------------


def test_without_validation_the_same_network_comes_out_and_nothing_is_reported():
    models = [MLP((8,)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    config = TrainConfig(epochs=2, batch_size=64, lr=0.05)
    with_val, without = (fit(model, TRAIN, val, config) for model, val in zip(models, (VAL, None), strict=True))
    assert without.val_errors == without.val_loss == [] and len(with_val.val_errors) == 2
    assert without.loss == with_val.loss
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


def test_without_validation_weights_that_overflow_in_the_last_step_are_an_error():
    with pytest.raises(TrainingError, match="weights became nan or infinite at the end of epoch 1"):
        fit(MLP((8,)), TRAIN, None, TrainConfig(epochs=1, batch_size=len(TRAIN), lr=1e38), loss=huge_loss)


def huge_loss(logits, batch):
    return 1e3 * hard_loss(logits, batch)


# --- precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [None, partial(random_shift, pixels=2)], ids=["cached", "online"])
def test_bfloat16_trains_nearly_the_same_network_and_keeps_float32_weights(augment):
    students = {}
    torch.manual_seed(3)
    teacher = MLP((40,))
    fit(teacher, TRAIN, VAL, TrainConfig(epochs=3, batch_size=64, lr=0.05))
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(4)
        students[precision] = MLP((30,))
        config = TrainConfig(epochs=3, batch_size=64, lr=0.05, precision=precision)
        distill(students[precision], teacher, TRAIN, VAL, config, augment=augment)
    a, b = (torch.cat([p.flatten() for p in model.parameters()]) for model in students.values())
    assert b.dtype == torch.float32
    assert 0 < (a - b).norm() < 0.05 * a.norm()
    errors = [count_errors(model, VAL) for model in students.values()]
    assert abs(errors[0] - errors[1]) <= 6


def test_bfloat16_losses_are_computed_in_float32():
    seen = []

    def loss(logits, batch):
        seen.append(logits.dtype)
        return hard_loss(logits, batch)

    fit(MLP((8,)), TRAIN, VAL, TrainConfig(epochs=1, batch_size=64, precision="bfloat16"), loss=loss)
    assert set(seen) == {torch.float32}


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be .* got 'float8'"):
        TrainConfig(precision="float8")
