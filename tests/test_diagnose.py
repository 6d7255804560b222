"""check_distillation names every mistake that it claims to see, and is silent on correct code."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kdutils
from kdutils import MLP, Batch, check_distillation
from kdutils.diagnose import MESSAGES

T, W = 4.0, 0.9


class Normed(nn.Sequential):
    """A network in which the mode matters: batch norm and dropout."""

    def __init__(self, units: int = 32) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(784, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(0.3), nn.Linear(units, 10)
        )


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    data = kdutils.load_dataset("digits")
    torch.manual_seed(0)
    teacher = Normed(64)
    kdutils.fit(teacher, data.train, None, kdutils.TrainConfig(epochs=10, lr=0.05))
    return teacher.eval()


@pytest.fixture
def teacher(trained) -> nn.Module:
    return copy.deepcopy(trained)


@pytest.fixture
def student() -> nn.Module:
    torch.manual_seed(1)
    return Normed()


@pytest.fixture(scope="module")
def batch() -> Batch:
    return next(kdutils.batches(kdutils.load_dataset("digits").train, 128, generator=torch.Generator().manual_seed(3)))


def quiet(model, images):
    with torch.no_grad():
        return model(images)


def correct(student, teacher, batch):
    return kdutils.distillation_loss(
        student(batch[0]), quiet(teacher, batch[0]), batch[1], temperature=T, soft_weight=W
    )


def mixed(soft, hard=F.cross_entropy):
    """A training step with this soft term, ``soft(s, t)``, in place of the right one."""

    def loss(student, teacher, batch):
        s = student(batch[0])
        return W * soft(s, quiet(teacher, batch[0])) + (1 - W) * hard(s, batch[1])

    return loss


def kl(s, t, **options):
    return F.kl_div((s / T).log_softmax(1), (t / T).softmax(1), **{"reduction": "batchmean"} | options)


# Each soft term that is wrong, and the name under which it must be found.
WRONG_TERMS = {
    "arguments swapped": lambda s, t: T**2 * kl(t, s),
    "log target": lambda s, t: T**2 * F.kl_div((s / T).log_softmax(1), (t / T).log_softmax(1), reduction="batchmean"),
    "mean": lambda s, t: T**2 * kl(s, t, reduction="mean"),
    "sum": lambda s, t: T**2 * kl(s, t, reduction="sum"),
    "T² missing": kl,
    "mean, T² missing": lambda s, t: kl(s, t, reduction="mean"),
    "softmax twice": lambda s, t: T**2 * kl(s.softmax(1), t.softmax(1)),
    "teacher's softmax twice": lambda s, t: T**2 * kl(s, t.softmax(1)),
    "student's softmax twice": lambda s, t: T**2 * kl(s.softmax(1), t),
    "no logarithm": lambda s, t: T**2 * F.kl_div((s / T).softmax(1), (t / T).softmax(1), reduction="batchmean"),
    "raw logits": lambda s, t: T**2 * F.kl_div(s / T, (t / T).softmax(1), reduction="batchmean"),
    "only the teacher softened": lambda s, t: (
        T**2 * F.kl_div(s.log_softmax(1), (t / T).softmax(1), reduction="batchmean")
    ),
    "only the student softened": lambda s, t: (
        T**2 * F.kl_div((s / T).log_softmax(1), t.softmax(1), reduction="batchmean")
    ),
    "teacher ignored": lambda s, t: T**2 * kl(s, s.detach().flip(1)),
}


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("name", WRONG_TERMS)
def test_a_wrong_soft_term_is_named_and_nothing_else(name, student, teacher, batch):
    seen = check_distillation(student, teacher, batch, mixed(WRONG_TERMS[name]))
    assert list(seen.problems) == [name], str(seen)
    assert seen and MESSAGES[name][:10] in str(seen)


@pytest.mark.parametrize(
    ("name", "hard"),
    [
        ("hard term: softmax twice", lambda s, y: F.cross_entropy(s.softmax(1), y)),
        ("hard term at T", lambda s, y: F.cross_entropy(s / T, y)),
    ],
)
def test_a_wrong_hard_term_is_named(name, hard, student, teacher, batch):
    seen = check_distillation(student, teacher, batch, mixed(lambda s, t: T**2 * kl(s, t), hard))
    assert list(seen.problems) == [name], str(seen)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0, 4.0, 20.0, 60.0])
@pytest.mark.parametrize("soft_weight", [0.05, 0.5, 0.9, 1.0])
def test_correct_code_raises_no_alarm_and_its_values_are_measured(temperature, soft_weight, student, teacher, batch):
    def loss(student, teacher, batch):
        logits = quiet(teacher, batch[0])
        return kdutils.distillation_loss(
            student(batch[0]), logits, batch[1], temperature=temperature, soft_weight=soft_weight
        )

    seen = check_distillation(student, teacher, batch, loss, optimizer=torch.optim.SGD(student.parameters(), lr=0.1))
    assert not seen, str(seen)
    assert seen.temperature == pytest.approx(temperature, rel=1e-2)
    assert seen.soft_weight == pytest.approx(soft_weight, rel=1e-2)
    assert seen.hard_weight == pytest.approx(1 - soft_weight, abs=1e-2)
    assert "No problem" in str(seen)


@pytest.mark.parametrize("hard_weight", [1.0, 0.5])
def test_a_hard_term_of_full_weight_beside_the_soft_one_is_no_mistake(hard_weight, student, teacher, batch):
    def loss(student, teacher, batch):
        s = student(batch[0])
        return T**2 * kl(s, quiet(teacher, batch[0])) + hard_weight * F.cross_entropy(s, batch[1])

    seen = check_distillation(student, teacher, batch, loss)
    assert not seen, str(seen)
    assert (seen.soft_weight, seen.hard_weight) == pytest.approx((1, hard_weight), rel=1e-2)


class Table(nn.Module):
    """A network that knows its logits by heart."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        return self.logits[places]


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("classes", [3, 10, 30])
@pytest.mark.parametrize("temperature", [2.0, 4.0])
@pytest.mark.parametrize("soft_weight", [0.5, 0.9])
def test_wrong_terms_are_told_apart_for_other_classes_temperatures_and_weights(classes, temperature, soft_weight):
    torch.manual_seed(0)
    labels = torch.arange(64) % classes
    student = Table(torch.randn(64, classes))
    teacher = Table(5 * F.one_hot(labels, classes) + torch.randn(64, classes)).eval()
    batch = torch.arange(64), labels

    def step(soft):
        def loss(student, teacher, batch):
            s, t = student(batch[0]), quiet(teacher, batch[0])
            return soft_weight * soft(s, t) + (1 - soft_weight) * F.cross_entropy(s, batch[1])

        return loss

    def at_this_temperature(term):
        # The terms above are written for T: with logits times T/temperature they are those of this temperature.
        return lambda s, t: (temperature / T) ** 2 * term(s * T / temperature, t * T / temperature)

    assert not check_distillation(student, teacher, batch, step(lambda s, t: kdutils.kd_loss(s, t, temperature)))
    for name in ("arguments swapped", "log target", "no logarithm", "mean", "T² missing", "raw logits"):
        term = at_this_temperature(WRONG_TERMS[name])
        if name == "T² missing":
            term = lambda s, t: kdutils.kd_loss(s, t, temperature) / temperature**2  # noqa: E731
        seen = check_distillation(student, teacher, batch, step(term))
        assert list(seen.problems) == [name], f"{name}: {seen}"


def test_what_is_harmless_is_no_mistake(student, teacher, batch):
    def in_place(student, teacher, batch):
        s, t = student(batch[0]) / T, quiet(teacher, batch[0])
        t /= T
        return T**2 * F.kl_div(s.log_softmax(1), t.softmax(1), reduction="batchmean")

    def normalised_for_the_teacher(student, teacher, batch):
        return kdutils.kd_loss(student(batch[0]), quiet(teacher, (batch[0] - 0.1) / 0.3), T)

    for loss in (in_place, normalised_for_the_teacher):
        assert not (seen := check_distillation(student, teacher, batch, loss)), f"{loss.__name__}: {seen}"
    plain = MLP((32,))  # nothing in it knows the mode
    data = kdutils.load_dataset("digits")
    kdutils.fit(plain, data.train, None, kdutils.TrainConfig(epochs=10))
    assert not check_distillation(student, plain.train(), batch, correct)


def test_other_correct_losses_raise_no_alarm(student, teacher, batch):
    def logit_matching(student, teacher, batch):
        return F.mse_loss(student(batch[0]), quiet(teacher, batch[0]))

    def soft_cross_entropy(student, teacher, batch):
        return T**2 * F.cross_entropy(student(batch[0]) / T, (quiet(teacher, batch[0]) / T).softmax(1))

    def weights_that_do_not_add_up(student, teacher, batch):
        s = student(batch[0])
        return T**2 * kl(s, quiet(teacher, batch[0])) + 0.3 * F.cross_entropy(s, batch[1])

    def a_term_of_another_kind(student, teacher, batch):
        s, t = student(batch[0]), quiet(teacher, batch[0])
        middle = ((s / T).softmax(1) + (t / T).softmax(1)) / 2
        return F.kl_div(middle.log(), (t / T).softmax(1), reduction="batchmean")

    for loss in (logit_matching, soft_cross_entropy, weights_that_do_not_add_up, a_term_of_another_kind):
        seen = check_distillation(student, teacher, batch, loss)
        assert not seen, f"{loss.__name__}: {seen}"
    assert "no form that this check knows" in str(seen)


def test_the_package_s_own_training_raises_no_alarm(student, teacher):
    data = kdutils.load_dataset("digits")
    stored = kdutils.cache_logits(teacher, data.train.images).half()  # stored in half the bits, as one does

    def loss(student, teacher, batch):
        return kdutils.distillation_loss(
            student(batch.images), stored[batch.index], batch.labels, temperature=T, soft_weight=W
        )

    for seed in range(5):
        some = next(kdutils.batches(data.train, 64, generator=torch.Generator().manual_seed(seed)))
        assert not (seen := check_distillation(student, teacher, some, loss)), str(seen)
    assert seen.temperature == pytest.approx(T, rel=1e-2)


@pytest.mark.parametrize("soft_weight", [0.5, 1.0])
def test_logits_stored_in_another_order_or_for_other_views_are_found(soft_weight, student, teacher, batch):
    data = kdutils.load_dataset("digits")
    stored = kdutils.cache_logits(teacher, data.train.images)
    shift = kdutils.random_shift
    moved = batch._replace(inputs=shift(batch.images, 2, torch.Generator().manual_seed(0)))

    def by_place(student, teacher, batch):
        rows = stored[: len(batch.labels)]
        return kdutils.distillation_loss(
            student(batch.images), rows, batch.labels, temperature=T, soft_weight=soft_weight
        )

    def by_index(student, teacher, batch):
        return kdutils.distillation_loss(
            student(batch.images), stored[batch.index], batch.labels, temperature=T, soft_weight=soft_weight
        )

    seen = check_distillation(student, teacher, batch, by_place)
    assert list(seen.problems) == ["cached for other images"]
    assert (seen.temperature, seen.soft_weight) == pytest.approx((T, soft_weight), rel=1e-2)
    assert list(check_distillation(student, teacher, moved, by_index).problems) == ["cached for other views"]


def test_two_views_drawn_in_one_step_are_found(student, teacher, batch):
    def loss(student, teacher, batch):
        views = [kdutils.random_shift(batch.images, 2, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
        return kdutils.kd_loss(student(views[0]), quiet(teacher, views[1]), T)

    assert list(check_distillation(student, teacher, batch, loss).problems) == ["different views"]


@pytest.mark.filterwarnings("ignore:reduction")
def test_labels_given_to_kl_div_are_named(student, teacher, batch):
    seen = check_distillation(student, teacher, batch, lambda s, t, b: nn.KLDivLoss()(s(b[0]), b[1]))
    assert list(seen.problems) == ["loss raises"] and "cross_entropy" in str(seen)


def test_modes_of_both_networks_are_looked_at_when_they_run(student, teacher, batch):
    teacher.train()
    seen = check_distillation(student, teacher, batch, correct)
    assert list(seen.problems) == ["teacher in train mode", "teacher changes"]
    assert "running_mean" in seen.problems["teacher changes"]

    def loss(student, teacher, batch):
        teacher.eval()
        return correct(student, teacher, batch)

    assert not check_distillation(student, teacher, batch, loss)
    assert teacher.training
    student.eval()
    assert list(check_distillation(student, teacher.eval(), batch, correct).problems) == ["student in eval mode"]


def test_a_gradient_into_the_teacher_is_found(student, teacher, batch):
    def loss(student, teacher, batch):
        return T**2 * kl(student(batch[0]), teacher(batch[0]))

    assert list(check_distillation(student, teacher, batch, loss).problems) == ["gradient into the teacher"]
    assert not check_distillation(student, kdutils.freeze(teacher), batch, loss)


def test_an_untrained_teacher_and_swapped_networks_are_found(student, teacher, batch):
    new = Normed().eval()
    assert list(check_distillation(student, new, batch, correct).problems) == ["untrained teacher"]

    def swapped(student, teacher, batch):
        return correct(teacher, student, batch)

    seen = check_distillation(student, teacher, batch, swapped)
    assert "swapped networks" in seen.problems

    def nothing(student, teacher, batch):
        with torch.no_grad():
            return correct(student, teacher, batch).total

    assert list(check_distillation(student, teacher, batch, nothing).problems) == ["no gradient"]

    def teacher_alone(student, teacher, batch):
        return F.cross_entropy(teacher(batch[0]), batch[1])

    assert list(check_distillation(student, teacher, batch, teacher_alone).problems) == ["student not called"]


def test_the_optimizer_must_hold_the_student_and_nothing_of_the_teacher(student, teacher, batch):
    def problems(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        return list(check_distillation(student, teacher, batch, correct, optimizer=optimizer).problems)

    assert problems(student.parameters()) == []
    assert problems(teacher.parameters()) == ["optimizer without the student", "optimizer holds the teacher"]
    assert problems([*student.parameters(), *teacher.parameters()]) == ["optimizer holds the teacher"]
    assert problems(list(student.parameters())[:-1]) == ["optimizer without the student"]


def test_networks_that_return_probabilities_are_named(student, teacher, batch):
    ends_in_softmax = nn.Sequential(MLP((8,)), nn.Softmax(dim=1))
    assert list(check_distillation(ends_in_softmax, teacher, batch, correct).problems) == [
        "student returns probabilities"
    ]
    with_softmax = nn.Sequential(teacher, nn.Softmax(dim=1)).eval()
    assert list(check_distillation(student, with_softmax, batch, correct).problems) == ["teacher returns probabilities"]


def test_a_gradient_that_is_nan_is_named(student, teacher, batch):
    def loss(student, teacher, batch):
        p, q = (z.softmax(1) for z in (quiet(teacher, batch[0]), student(batch[0])))
        return (p * (p.log() - (q - q).log())).sum()

    assert list(check_distillation(student, teacher, batch, loss).problems) == ["not finite"]


def test_everything_is_left_as_it_was(student, teacher, batch):
    teacher.train()
    for model in (student, teacher):
        model(batch.images).sum().backward()
    gradients = [p.grad for model in (student, teacher) for p in model.parameters()]
    before = copy.deepcopy([student.state_dict(), teacher.state_dict()])
    numbers = torch.get_rng_state()

    def careless(student, teacher, batch):
        torch.rand(3)
        student.eval()
        return correct(student, teacher, batch)

    assert check_distillation(student, teacher, batch, careless)
    for old, model in zip(before, (student, teacher), strict=True):
        assert all(torch.equal(old[name], tensor) for name, tensor in model.state_dict().items())
        assert all(module.training for module in model.modules()) and not model._forward_hooks
    assert all(
        p.grad is g
        for p, g in zip((p for model in (student, teacher) for p in model.parameters()), gradients, strict=True)
    )
    assert torch.equal(torch.get_rng_state(), numbers)


def test_networks_and_losses_of_another_form_are_refused(student, teacher, batch):
    class InADict(nn.Module):
        def forward(self, images):
            return {"logits": teacher(images)}

    with pytest.raises(ValueError, match="InADict must be called as .* got dict"):
        check_distillation(student, InADict(), batch, lambda s, t, b: kdutils.kd_loss(s(b[0]), t(b[0])["logits"]))
    with pytest.raises(ValueError, match=r"loss must return a scalar tensor.*got a tensor of shape \(128,\)"):
        check_distillation(
            student, teacher, batch, lambda s, t, b: kdutils.kd_loss(s(b[0]), quiet(t, b[0]), reduction="none")
        )
    with pytest.raises(ValueError, match="got float"):
        check_distillation(student, teacher, batch, lambda s, t, b: correct(s, t, b).total.item())
    with pytest.raises(ValueError, match="are one network"):
        check_distillation(teacher, teacher, batch, correct)


def test_every_message_can_be_reached_and_filled_in():
    seen = kdutils.Diagnosis()
    for name in MESSAGES:
        seen.add(name, temperature=4.0, factor=16.0, names="weight", right=1, wrong=9, count=16, error="ValueError")
    assert "{" not in str(seen) and len(seen.problems) == len(MESSAGES)
    assert max(map(len, str(seen).splitlines())) <= 80


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (torch.rand(64, 10), "begin with images and labels"),
        ((torch.rand(64, 1, 28, 28),), "begin with images and labels"),
        ((torch.rand(64, 1, 28, 28), torch.rand(64)), "int64"),
        ((torch.rand(64, 1, 28, 28), torch.zeros(63, dtype=torch.int64)), "one for each image"),
        ((torch.rand(8, 1, 28, 28), torch.zeros(8, dtype=torch.int64)), "at least 16 examples.* got 8"),
    ],
)
def test_a_bad_batch_is_refused(bad, told, student, teacher):
    with pytest.raises(ValueError, match=told):
        check_distillation(student, teacher, bad, correct)
