"""fit and distill with what people bring: other inputs, outputs, labels, loaders, losses, optimizers."""

import copy
import math
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from kdutils import (
    MLP,
    Split,
    TrainConfig,
    TrainingError,
    batches,
    binary_kd_loss,
    count_errors,
    distill,
    fit,
    hard_loss,
    kd_loss,
    load_dataset,
    next_token,
    predict_logits,
    regression_kd_loss,
    reverse_kd_loss,
    warmup,
)
from tests.test_train import same

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = load_dataset("digits")
TRAIN, VAL = DATA.train[:384], DATA.val[:100]


def config(**changes) -> TrainConfig:
    return TrainConfig(**({"epochs": 2, "batch_size": 64, "lr": 0.05, "device": "cpu"} | changes))


def network(seed: int = 0, **settings) -> MLP:
    torch.manual_seed(seed)
    return MLP((16,), **settings)


def trained(seed: int = 0) -> MLP:
    model = network(seed)
    fit(model, TRAIN, None, config(epochs=8, lr=0.1))
    return model


TEACHER = trained(1)


def loader(split: Split = TRAIN, **options) -> DataLoader:
    return DataLoader(TensorDataset(split.images, split.labels), batch_size=64, **options)


# --- batches ---


def test_a_loader_gives_what_the_same_batches_of_a_split_give():
    first_epoch = list(batches(TRAIN, 64, generator=torch.Generator().manual_seed(0)))
    shapes = {
        "pairs": [(batch.images, batch.labels) for batch in first_epoch],
        "lists": [[batch.images, batch.labels] for batch in first_epoch],
        "dictionaries": [{"image": batch.images, "labels": batch.labels} for batch in first_epoch],
        "label": [{"image": batch.images, "label": batch.labels} for batch in first_epoch],
    }
    expected = network(2)
    history = distill(expected, TEACHER, TRAIN, VAL, config(epochs=1))
    for name, given in shapes.items():
        student = network(2)
        again = distill(student, TEACHER, given, VAL, config(epochs=1))
        for a, b in zip(student.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=name)
        assert again.val_errors == history.val_errors, name
        assert again.teacher_seconds < history.seconds[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shuffling_loader_repeats_by_seed_and_resumes_to_the_same_weights(tmp_path, workers):
    def run(seed=3, epochs=3, **options):
        student = network(2)
        generator = torch.Generator().manual_seed(9)
        given = loader(shuffle=True, num_workers=workers, generator=generator if workers else None)
        distill(student, TEACHER, given, loader(VAL), config(seed=seed, epochs=epochs), **options)
        return student

    whole = run()
    assert same(whole, run())
    stopped = {"checkpoint": tmp_path / "run.ckpt", "run_name": "loader"}

    def stop(history):
        if len(history.loss) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(on_epoch=stop, **stopped)
    assert same(whole, run(**stopped))
    if not workers:
        assert not same(whole, run(seed=4))


def test_validation_counts_the_same_over_a_loader_and_over_a_split():
    one, two = (fit(network(), TRAIN, val, config()) for val in (VAL, loader(VAL)))
    assert one.val_errors == two.val_errors
    assert one.val_loss == pytest.approx(two.val_loss, rel=1e-6)
    assert count_errors(TEACHER, VAL) == count_errors(TEACHER, loader(VAL))


class TwoInputs(nn.Module):
    """Left and right half of a digit, by name."""

    def __init__(self, answer):
        super().__init__()
        self.left, self.right, self.answer = nn.Linear(392, 10), nn.Linear(392, 10), answer

    def forward(self, left, right):
        return self.answer(self.left(left.flatten(1)) + self.right(right.flatten(1)))


ANSWERS = {
    "tensor": lambda logits: logits,
    "tuple": lambda logits: (logits, "more"),
    "dictionary": lambda logits: {"loss": None, "logits": logits},
    "object": lambda logits: SimpleNamespace(logits=logits, hidden_states=None),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("kind", ["dictionary", "tuple"])
def test_several_inputs_and_every_kind_of_answer(answer, kind):
    halves = TRAIN.images[..., :14].contiguous(), TRAIN.images[..., 14:].contiguous()
    torch.manual_seed(0)
    student, teacher = TwoInputs(ANSWERS[answer]), TwoInputs(ANSWERS["tensor"])
    if kind == "dictionary":
        train = Split(dict(zip(("left", "right"), halves, strict=True)), TRAIN.labels)
    else:
        train = [((halves[0][i : i + 64], halves[1][i : i + 64]), TRAIN.labels[i : i + 64]) for i in range(0, 384, 64)]
    fit(teacher, train, train, config(epochs=6))
    history = distill(student, teacher, train, train, config(epochs=6))
    assert history.val_errors[-1] < 60


def test_an_answer_without_logits_is_named():
    class Strange(nn.Module):
        def forward(self, images):
            return {"features": images}

    with pytest.raises(TypeError, match="Strange returned dict, .* no logits .* adapter="):
        fit(Strange(), TRAIN, None, config())


def test_an_adapter_serves_any_batch_and_any_model():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(5)

        def predict(self, images):
            return {"scores": [self.inner(images)]}

    def adapter(model, batch):
        name, images, labels = batch
        assert name == "digits"
        return (model.predict(images)["scores"][0] if isinstance(model, Odd) else model(images)), labels

    given = [("digits", TRAIN.images[i : i + 64], TRAIN.labels[i : i + 64]) for i in range(0, 384, 64)]
    student, plain = Odd(), Odd()
    history = distill(student, TEACHER, given, given, config(), adapter=adapter)
    assert history.val_errors[-1] < history.val_errors[0]
    distill(plain.inner, TEACHER, [part[1:] for part in given], None, config())
    assert same(student, plain)
    with pytest.raises(ValueError, match="got 3 parts: pass adapter="):
        distill(Odd(), TEACHER, given, None, config())


def test_single_examples_and_things_without_a_length_are_refused_with_what_to_do():
    examples = TensorDataset(TRAIN.images, TRAIN.labels)
    with pytest.raises(ValueError, match=r"train is a data set .* DataLoader\(train, .*shuffle=True"):
        fit(network(), examples, None, config())
    with pytest.raises(ValueError, match=r"val is a data set .* shuffle=False"):
        fit(network(), TRAIN, examples, config())
    with pytest.raises(ValueError, match="train must be a Split, or an iterable of batches with a length .* generator"):
        fit(network(), (batch for batch in loader()), None, config())
    with pytest.raises(ValueError, match="a Split holds tensors, got TensorDataset .* DataLoader"):
        Split(examples)


def test_a_loader_that_gives_less_than_its_length_is_noticed():
    class Short(Dataset):
        def __len__(self):
            return 3

        def __iter__(self):
            return iter(list(loader())[:2])

    class Loader:
        __len__, __iter__ = Short.__len__, Short.__iter__

    with pytest.raises(ValueError, match="a source of 3 batches, by its length, gave only 2"):
        fit(network(), Loader(), None, config())


# --- labels ---


class Tagger(nn.Module):
    """Logits (B, L, C) for tokens (B, L); nothing but the token itself counts."""

    def __init__(self, vocabulary=12, classes=5, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(vocabulary, classes)

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(logits=self.table(input_ids))


def token_data(padding: int = 0) -> Split:
    """64 sequences of 8 tokens, of which the last are padding, with token 0 and label −100."""
    tokens = torch.randint(1, 12, (64, 8), generator=torch.Generator().manual_seed(0))
    labels = tokens % 5
    if padding:
        tokens[:, -padding:], labels[:, -padding:] = 0, -100
    return Split({"input_ids": tokens, "attention_mask": (tokens > 0).long()}, labels)


def test_padding_changes_nothing_and_learns_nothing():
    longer, plain = token_data(padding=3), token_data(padding=3)
    cut = Split({name: part[:, :5] for name, part in plain.inputs.items()}, plain.labels[:, :5])
    for learn in (
        lambda model, data: fit(model, data, data, config(lr=1.0)),
        lambda model, data: distill(model, Tagger(seed=1), data, data, config(lr=1.0)),
        lambda model, data: distill(
            model, Tagger(seed=1), data, data, config(lr=1.0), soft_loss=partial(reverse_kd_loss, temperature=2.0)
        ),
    ):
        models = Tagger(), Tagger()
        histories = [learn(model, data) for model, data in zip(models, (longer, cut), strict=True)]
        torch.testing.assert_close(models[0].table.weight, models[1].table.weight)
        assert torch.equal(models[0].table.weight[0], Tagger().table.weight[0])  # the padding token
        assert histories[0].val_errors == histories[1].val_errors
        assert histories[0].val_loss == pytest.approx(histories[1].val_loss)


def test_labels_outside_of_the_classes_are_named_before_a_step():
    for bad in (10, -1):
        labels = TRAIN.labels.clone()
        labels[200] = bad
        model = network()
        with pytest.raises(ValueError, match=rf"labels must lie in 0 … 9, got values from {min(bad, 0)} to"):
            fit(model, Split(TRAIN.images, labels), None, config())
        assert same(model, network())
        with pytest.raises(ValueError, match="labels must lie in 0 … 9"):
            fit(model, loader(Split(TRAIN.images, labels)), None, config(epochs=1))


def test_labels_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"labels must have shape \(384,\) .* got \(384, 1\)"):
        fit(network(), Split(TRAIN.images, TRAIN.labels[:, None]), None, config())


def test_a_batch_in_which_no_label_counts_is_named_and_not_blamed_on_the_rate():
    labels = TRAIN.labels.clone()
    labels[64:128] = -100
    with pytest.raises(ValueError, match="no label of step 2 counts: all are -100"):
        fit(network(), loader(Split(TRAIN.images, labels)), None, config())
    with pytest.raises(ValueError, match="no label of the data counts"):
        fit(network(), Split(TRAIN.images, torch.full_like(TRAIN.labels, -100)), None, config())


def test_labels_of_another_type_ask_for_a_loss():
    with pytest.raises(ValueError, match="labels are torch.float32, no class numbers .* pass loss="):
        fit(network(), Split(TRAIN.images, TRAIN.labels.float()), None, config())


def causal(padding: int = 2) -> Split:
    """Sequences in which each token is the one before plus 1, so that the next one can be told."""
    start = torch.randint(0, 12, (64, 1), generator=torch.Generator().manual_seed(0))
    tokens = (start + torch.arange(8)) % 12
    labels = tokens.clone()
    labels[:, -padding:] = -100
    return Split({"input_ids": tokens}, labels)


def test_a_causal_model_learns_the_next_token_through_the_adapter_and_is_refused_without():
    data = causal()
    teacher, student = Tagger(classes=12), Tagger(classes=12, seed=1)
    fit(teacher, data, data, config(epochs=20, lr=2.0), adapter=next_token)
    history = distill(student, teacher, data, data, config(epochs=20, lr=1.0), adapter=next_token)
    assert history.val_errors[-1] == 0
    assert student(torch.tensor([[3]])).logits.argmax() == 4
    for train in (data, [{"input_ids": data.inputs["input_ids"], "labels": data.labels}]):
        with pytest.raises(ValueError, match="labels are the input tokens themselves.*next_token"):
            fit(Tagger(classes=12), train, None, config())


# --- other tasks ---


def test_many_labels_at_once_with_a_teacher():
    digit = F.one_hot(TRAIN.labels, 10).float()
    marks = torch.stack([digit[:, ::2].sum(1), digit[:, 5:].sum(1), digit[:, [0, 6, 8, 9]].sum(1)], dim=1)
    data = Split(TRAIN.images, marks)

    def marked(logits, batch):
        return F.binary_cross_entropy_with_logits(logits, batch.labels)

    teacher, student = network(1, num_classes=3), network(2, num_classes=3)
    fit(teacher, data, data, config(epochs=20, lr=0.3), loss=marked)
    soft = partial(binary_kd_loss, temperature=2.0)
    history = distill(student, teacher, data, data, config(epochs=20), soft_loss=soft, loss=marked)
    assert history.val_errors == [] and history.val_loss[-1] < 0.7 * history.val_loss[0]
    wrong = ((predict_logits(student, TRAIN.images) > 0) != marks.bool()).float().mean()
    assert wrong < 0.15


def test_labels_that_are_no_classes_ask_for_a_soft_loss():
    marks = Split(TRAIN.images, torch.ones(len(TRAIN), 10))
    student = network(2)
    with pytest.raises(ValueError, match="labels are torch.float32, .* soft_loss=partial.kdutils.binary_kd_loss"):
        distill(student, TEACHER, marks, None, config(), loss=lambda logits, batch: logits.square().mean())
    assert same(student, network(2))
    with pytest.raises(ValueError, match="no class numbers: there are no errors to count"):
        count_errors(student, marks)


def test_regression_with_a_teacher_and_the_best_epoch_by_its_loss():
    target = TRAIN.images.flatten(1).mean(1, keepdim=True)
    data = Split(TRAIN.images, (target - target.mean()) / target.std())

    def squared(outputs, batch):
        return F.mse_loss(outputs, batch.labels)

    teacher, student = network(1, num_classes=1), network(2, num_classes=1)
    fit(teacher, data, data, config(epochs=10, lr=0.01), loss=squared)
    history = distill(
        student, teacher, data, data, config(lr=0.01), soft_loss=regression_kd_loss, loss=squared, keep="best"
    )
    assert history.val_loss[-1] < history.val_loss[0] < 5
    assert history.best_epoch == 1 + int(np.argmin(history.val_loss))


def test_a_soft_loss_has_a_temperature_of_its_own():
    with pytest.raises(ValueError, match="soft_loss has a temperature of its own: pass partial"):
        distill(network(2), TEACHER, TRAIN, None, config(), soft_loss=reverse_kd_loss, temperature=2.0)
    with_own, by_default = network(2), network(2)
    distill(with_own, TEACHER, TRAIN, None, config(), soft_loss=partial(kd_loss, temperature=3.0))
    distill(by_default, TEACHER, TRAIN, None, config(), temperature=3.0)
    for a, b in zip(with_own.parameters(), by_default.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_loss_of_ones_own_stands_beside_the_soft_term():
    seen = []

    def smoothed(logits, batch):
        seen.append((logits.shape, batch.labels.shape, batch.images.shape))
        return F.cross_entropy(logits, batch.labels, label_smoothing=0.1)

    own, plain = network(2), network(2)
    history = distill(own, TEACHER, TRAIN, VAL, config(epochs=1), loss=smoothed, soft_weight=0.5)
    distill(plain, TEACHER, TRAIN, VAL, config(epochs=1), soft_weight=0.5)
    assert not same(own, plain) and seen[0] == ((64, 10), (64,), (64, 1, 28, 28))
    assert history.loss[0] == pytest.approx(0.5 * history.soft[0] + 0.5 * history.hard[0], rel=1e-5)


# --- the teacher ---


def test_stored_answers_do_what_the_teacher_does():
    stored = predict_logits(TEACHER, TRAIN.images)
    asked, looked_up, by_index = network(2), network(2), network(2)
    distill(asked, TEACHER, TRAIN, VAL, config())
    distill(looked_up, None, TRAIN, VAL, config(), teacher_logits=stored)
    assert same(asked, looked_up)

    class Numbered(Dataset):
        def __len__(self):
            return len(TRAIN)

        def __getitem__(self, place):
            return {"input": TRAIN.images[place], "labels": TRAIN.labels[place], "index": place}

    shuffled = DataLoader(Numbered(), batch_size=384, shuffle=True)
    one_step = config(epochs=1, batch_size=384)
    distill(by_index, None, shuffled, VAL, one_step, teacher_logits=stored)
    expected = network(2)
    distill(expected, TEACHER, TRAIN, VAL, one_step)
    for a, b in zip(by_index.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_stored_answers_are_refused_where_they_cannot_belong():
    stored = predict_logits(TEACHER, TRAIN.images)
    run = partial(distill, network(2), None)
    with pytest.raises(ValueError, match="a row for each example, got 100 for 384"):
        run(TRAIN, None, config(), teacher_logits=stored[:100])
    with pytest.raises(ValueError, match='by the place of each example.*an "index"'):
        run(loader(), None, config(), teacher_logits=stored)
    with pytest.raises(ValueError, match="either a teacher, or its stored answers"):
        run(TRAIN, None, config())
    with pytest.raises(ValueError, match="either a teacher, or its stored answers"):
        distill(network(2), TEACHER, TRAIN, None, config(), teacher_logits=stored)
    with pytest.raises(ValueError, match="unlabelled examples need a teacher"):
        run(TRAIN, None, config(), teacher_logits=stored, unlabelled=VAL)


@pytest.mark.parametrize("kind", ["split", "loader", "stored"])
def test_probabilities_in_place_of_logits_are_refused(kind):
    softmax = nn.Sequential(TEACHER, nn.Softmax(dim=-1))
    given = {"teacher": softmax, "train": loader() if kind == "loader" else TRAIN}
    if kind == "stored":
        given = {"teacher": None, "train": TRAIN, "teacher_logits": predict_logits(softmax, TRAIN.images)}
    with pytest.raises(ValueError, match="the teacher gives probabilities.*logarithm"):
        distill(network(2), val=None, config=config(), **given)
    log = nn.Sequential(TEACHER, nn.LogSoftmax(dim=-1))
    from_log, from_logits = network(2), network(2)
    distill(from_log, log, TRAIN, None, config())
    distill(from_logits, TEACHER, TRAIN, None, config())
    for a, b in zip(from_log.parameters(), from_logits.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_teacher_in_half_precision_teaches(dtype, tmp_path):
    teacher = copy.deepcopy(TEACHER).to(dtype)
    student, expected = network(2), network(2)
    options = {"checkpoint": tmp_path / "run.ckpt", "run_name": "half"}
    history = distill(student, teacher, loader(), VAL, config(), **options)
    plain = distill(expected, TEACHER, loader(), VAL, config())
    assert abs(history.val_errors[-1] - plain.val_errors[-1]) <= 3
    assert next(teacher.parameters()).dtype == dtype


def test_other_classes_are_matched_by_name_only():
    names = [str(digit) for digit in range(10)]
    kept = TRAIN.labels < 7
    fewer = Split(TRAIN.images[kept], 6 - TRAIN.labels[kept])  # the student counts its seven classes backwards
    student = network(2, num_classes=7)
    before = copy.deepcopy(student)
    with pytest.raises(ValueError, match="the same classes, got 7 and 10: say by name .* classes="):
        distill(student, TEACHER, fewer, None, config())
    assert same(student, before)
    own = names[6::-1]
    distill(student, TEACHER, fewer, None, config(epochs=8), soft_weight=1.0, classes=(own, names))
    right = (predict_logits(student, fewer.images).argmax(1) == fewer.labels).float().mean()
    assert right > 0.9  # it saw no label: the names alone told it which class is which


# --- examples without labels ---


def test_without_labels_at_all_the_teacher_alone_teaches():
    student = network(2)
    with pytest.raises(ValueError, match=r"the soft weight has to be 1 .* got 0\.9"):
        distill(student, TEACHER, Split(TRAIN.images), VAL, config())
    with pytest.raises(ValueError, match="the soft weight has to be 1"):
        distill(student, TEACHER, [TRAIN.images[:64]], VAL, config())
    assert same(student, network(2))
    history = distill(student, TEACHER, Split(TRAIN.images), VAL, config(), soft_weight=1.0)
    labelled = network(2)
    distill(labelled, TEACHER, TRAIN, VAL, config(), soft_weight=1.0)
    for a, b in zip(student.parameters(), labelled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert history.hard == [] and history.loss == history.soft
    with pytest.raises(ValueError, match="no labels: distill them"):
        fit(network(), Split(TRAIN.images), None, config())


@pytest.mark.parametrize("kind", ["split", "loader"])
def test_unlabelled_examples_are_one_argument(kind):
    few, rest = TRAIN[:64], TRAIN[64:]
    given = rest if kind == "split" else [(part.images,) for part in batches(rest, 64)]
    with_more, alone = network(2), network(2)
    settings = config(epochs=6)
    more = distill(with_more, TEACHER, few, VAL, settings, unlabelled=given)
    less = distill(alone, TEACHER, few, VAL, settings)
    assert more.val_errors[-1] < less.val_errors[-1] - 5
    assert math.isfinite(more.hard[-1]) and math.isfinite(more.loss[-1])


@pytest.mark.parametrize("given", [lambda split: split, loader], ids=["split", "loader"])
def test_labels_of_the_unlabelled_are_not_looked_at(given):
    few, rest = TRAIN[:64], TRAIN[64:]
    wrong = Split(rest.images, (rest.labels + 1) % 10)
    none = [rest.images[start : start + 64] for start in range(0, len(rest), 64)] if given is loader else None
    students = [network(2) for _ in range(3)]
    for student, more in zip(students, (given(rest), given(wrong), none or Split(rest.images)), strict=True):
        distill(student, TEACHER, few, VAL, config(), unlabelled=more)
    assert same(students[0], students[1]) and same(students[0], students[2])


def test_what_does_not_go_with_unlabelled_is_refused():
    run = partial(distill, network(2), TEACHER, val=None, config=config(), soft_weight=1.0, unlabelled=TRAIN[64:])
    with pytest.raises(ValueError, match="train has no labels either: put all examples into train"):
        run(Split(TRAIN.images[:64]))
    with pytest.raises(ValueError, match="adapter and unlabelled do not go together"):
        run(TRAIN[:64], adapter=lambda model, batch: (model(batch.images), batch.labels))


# --- how it is trained ---


def test_adam_with_warm_up_is_one_line_and_is_what_torch_does():
    model, plain = network(), network()
    settings = config(epochs=2, lr=0.01, weight_decay=0.1, clip=0.5)
    fit(model, TRAIN, None, settings, optimizer=torch.optim.AdamW, schedule=warmup(0.25))

    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.1)
    shuffle = torch.Generator().manual_seed(0)
    for epoch in range(2):
        for step, batch in enumerate(batches(TRAIN, 64, generator=shuffle)):
            done = (6 * epoch + step) / 12
            optimizer.param_groups[0]["lr"] = 0.01 * (4 * done if done < 0.25 else (1 - done) / 0.75)
            optimizer.zero_grad()
            F.cross_entropy(plain(batch.images), batch.labels).backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimizer.step()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="share must lie between 0 and 1, got 1.5"):
        warmup(1.5)


def test_parameter_groups_keep_the_ratio_of_their_rates():
    def grouped(parameters, lr, weight_decay):
        weights = list(parameters)
        return torch.optim.SGD([{"params": weights[:2], "lr": 0.0}, {"params": weights[2:]}], lr=lr)

    model = network()
    fit(model, TRAIN, None, config(), optimizer=grouped)
    assert same(model[1], network()[1]) and not same(model[3], network()[3])


def test_a_finished_optimizer_is_refused_with_what_to_pass():
    model = network()
    finished = torch.optim.AdamW(model.parameters())
    with pytest.raises(ValueError, match="got a finished AdamW: pass torch.optim.AdamW"):
        fit(model, TRAIN, None, config(), optimizer=finished)


def test_the_best_epoch_is_kept_if_asked_and_survives_a_restart(tmp_path):
    worst_last = {0: 1.0, 1: 0.5, 2: -1.0, 3: -1.0}  # climbs the loss in the second half

    def schedule(progress):
        return worst_last[int(4 * progress)]

    def run(keep, **options):
        model = network()
        return model, fit(model, TRAIN, VAL, config(epochs=4, lr=0.1), keep=keep, schedule=schedule, **options)

    last, history = run("last")
    best, chosen = run("best")
    assert chosen.val_errors == history.val_errors and history.best_epoch is None
    assert chosen.best_epoch == 1 + int(np.argmin(history.val_errors)) < 4
    assert count_errors(best, VAL) == min(history.val_errors) < count_errors(last, VAL)
    options = {"checkpoint": tmp_path / "run.ckpt", "run_name": "best"}

    def stop(history):
        if len(history.loss) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("best", on_epoch=stop, **options)
    assert same(run("best", **options)[0], best)
    with pytest.raises(ValueError, match='keep="best" needs val'):
        fit(network(), TRAIN, None, config(), keep="best")
    with pytest.raises(ValueError, match="keep must be .* got 'first'"):
        fit(network(), TRAIN, VAL, config(), keep="first")


def test_a_finished_run_can_be_extended(tmp_path):
    checkpoint = tmp_path / "run.ckpt"
    model, longer = network(), network()
    fit(model, TRAIN, VAL, config(epochs=2), checkpoint=checkpoint)
    with pytest.raises(ValueError, match="epochs was 2, is 5.*extend=True"):
        fit(longer, TRAIN, VAL, config(epochs=5), checkpoint=checkpoint)
    history = fit(longer, TRAIN, VAL, config(epochs=5), checkpoint=checkpoint, extend=True)
    assert len(history.loss) == len(history.val_errors) == 5
    assert history.loss[4] < history.loss[1]
    with pytest.raises(ValueError, match="holds 5 epochs already, more than the 3"):
        fit(network(), TRAIN, VAL, config(epochs=3), checkpoint=checkpoint, extend=True)
    with pytest.raises(ValueError, match="lr was 0.05, is 0.1"):
        fit(network(), TRAIN, VAL, config(epochs=6, lr=0.1), checkpoint=checkpoint, extend=True)


def test_each_epoch_is_told_to_whoever_keeps_a_log():
    log = []
    fit(network(), TRAIN, VAL, config(epochs=3), on_epoch=lambda history: log.append(history.val_errors[-1]))
    assert len(log) == 3 and log[-1] < log[0]


def test_progress_after_a_restart_begins_where_the_run_stands(tmp_path, capsys):
    def stop(history):
        if len(history.loss) == 2:
            raise KeyboardInterrupt

    options = {"checkpoint": tmp_path / "run.ckpt", "run_name": "progress"}
    with pytest.raises(KeyboardInterrupt):
        fit(network(), TRAIN, VAL, config(epochs=4), on_epoch=stop, **options)
    capsys.readouterr()
    fit(network(), TRAIN, VAL, config(epochs=4, progress=True), **options)
    shown = capsys.readouterr().err
    assert "2/4" in shown and "4/4" in shown and "0/4" not in shown


def test_float16_scales_the_loss_and_trains_nearly_the_same_network():
    students = {}
    for precision in ("float32", "float16"):
        students[precision] = network(2)
        distill(students[precision], TEACHER, loader(), VAL, config(epochs=3, precision=precision, clip=10.0))
    a, b = (torch.cat([p.flatten() for p in model.parameters()]) for model in students.values())
    assert b.dtype == torch.float32 and 0 < (a - b).norm() < 0.05 * a.norm()


def test_numpy_numbers_are_taken_as_settings(tmp_path):
    settings = config(epochs=np.int64(1), lr=np.float32(0.5), batch_size=np.int32(64), seed=np.uint8(3))
    assert (settings.lr, settings.seed) == (0.5, 3)
    for value in (settings.epochs, settings.batch_size, settings.lr):
        assert type(value) in (int, float)
    fit(network(), TRAIN, VAL, settings, checkpoint=tmp_path / "run.ckpt")


def test_batch_norm_and_a_last_batch_of_one_are_noticed_before_the_first_step():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match="batch norm cannot train on one example .* another batch_size than 64"):
        fit(model, TRAIN[:129], None, config())
    assert same(model, before)
    convolution = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(784, 10))
    fit(convolution, TRAIN[:129], None, config(epochs=1))  # 784 values in one example are enough


def test_asking_the_teacher_is_in_the_history():
    class Slow(nn.Module):
        def forward(self, images):
            import time

            time.sleep(0.05)
            return TEACHER(images)

    history = distill(network(2), Slow(), TRAIN, VAL, config(epochs=1))
    assert history.teacher_seconds >= 0.05


def test_a_gpu_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ValueError, match="device 'cuda' is not there"):
        config(device="cuda")


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distill(network(2), TEACHER, loader(), VAL, config(), optimizer=torch.optim.AdamW, schedule=warmup(0.1))


def test_a_loss_that_is_nan_says_where_also_with_a_loader():
    with pytest.raises(TrainingError, match="the loss became nan in epoch 1, step 1 of 6"):
        fit(network(), loader(), None, config(), loss=lambda logits, batch: hard_loss(logits, batch) * math.nan)
