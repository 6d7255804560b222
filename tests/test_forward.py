"""forward.py and evaluate.py: any model is called as it wants to be, and judged over any batches."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdutils import MLP, Split, call_model, count_errors, load_dataset, next_token, predict_logits
from kdutils.data import Batch
from kdutils.evaluate import score
from kdutils.forward import read, read_again

VAL = load_dataset("digits").val[:120]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return MLP((8,))


class Named(nn.Module):
    def forward(self, *, tokens, mask):
        return tokens * mask


class Positional(nn.Module):
    def forward(self, left, right):
        return left - right


def test_inputs_go_in_by_name_by_place_or_alone(model):
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])
    assert call_model(Named(), {"mask": b, "tokens": a}).tolist() == [3, 0]
    assert call_model(Positional(), (a, b)).tolist() == [2, 4]
    assert torch.equal(call_model(model, VAL.images), model(VAL.images))
    assert torch.equal(call_model(model, {"image": VAL.images}), model(VAL.images))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_floating_inputs_follow_a_model_in_half_precision_and_tokens_do_not(dtype):
    linear = nn.Linear(4, 2).to(dtype)
    assert call_model(linear, torch.ones(3, 4)).dtype == dtype
    table = nn.Embedding(5, 2).to(dtype)
    assert call_model(table, torch.tensor([1, 2])).dtype == dtype
    assert call_model(nn.Linear(4, 2).double(), torch.ones(3, 4).double()).dtype == torch.float64


def test_next_token_pairs_each_answer_with_the_token_after_it():
    class Echo(nn.Module):
        def forward(self, input_ids):
            return SimpleNamespace(logits=F.one_hot(input_ids, 9).float())

    tokens = torch.tensor([[1, 2, 3, 4]])
    logits, labels = next_token(Echo(), {"input_ids": tokens, "labels": torch.tensor([[-100, 2, 3, -100]])})
    assert logits.argmax(-1).tolist() == [[1, 2, 3]] and labels.tolist() == [[2, 3, -100]]


def test_an_adapter_is_asked_again_with_what_it_was_asked_with_before():
    def adapter(model, batch):
        images, labels = batch if not isinstance(batch, Batch) else batch[:2]
        return model(images), labels + 0

    model = MLP((4,))
    for given in ((VAL.images, VAL.labels), Batch(VAL.images, VAL.labels, torch.arange(len(VAL)))):
        logits, batch = read(model, given, adapter)
        assert torch.equal(batch.labels, VAL.labels)
        assert torch.equal(read_again(model, batch, adapter), logits)


# Judging


def test_a_score_over_a_loader_is_that_over_the_split(model):
    whole = score(model, VAL)
    logits = predict_logits(model, VAL.images)
    assert whole.errors == int((logits.argmax(1) != VAL.labels).sum()) == count_errors(model, VAL)
    assert whole.loss / whole.count == pytest.approx(F.cross_entropy(logits, VAL.labels).item(), rel=1e-6)
    pairs = [(VAL.images[i : i + 50], VAL.labels[i : i + 50]) for i in range(0, 120, 50)]
    assert score(model, pairs).errors == whole.errors
    assert model.training


def test_positions_that_do_not_count_are_no_errors():
    table = nn.Embedding(6, 6)
    with torch.no_grad():
        table.weight.copy_(torch.eye(6))
    tokens = torch.tensor([[1, 2, 3], [4, 5, 0]])
    labels = torch.tensor([[1, 2, 0], [4, -100, -100]])
    found = score(table, Split(tokens, labels))
    assert (found.errors, found.count) == (1, 4)


def test_what_cannot_be_judged_is_named(model):
    with pytest.raises(ValueError, match="no labels, so there is nothing to compare"):
        score(model, Split(VAL.images))
    with pytest.raises(ValueError, match="all of them are -100"):
        score(model, Split(VAL.images, torch.full_like(VAL.labels, -100)))
    with pytest.raises(ValueError, match="labels must lie in 0 … 9"):
        score(model, Split(VAL.images, VAL.labels + 5))


def test_a_network_that_gives_nan_is_counted_like_any_other(model):
    broken = Split(VAL.images / 0, VAL.labels)
    expected = int((predict_logits(model, broken.images).argmax(1) != VAL.labels).sum())
    assert count_errors(model, broken) == expected
