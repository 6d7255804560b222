"""data.py: a split that can be indexed, and epochs that hold every example once."""

from functools import partial

import pytest
import torch

from kdutils import Split, batches, load_dataset, random_shift
from kdutils.data import as_batch, interleave, map_tensors


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_a_split_can_be_indexed_and_refuses_lengths_that_differ(digits):
    some = digits.val[digits.val.labels == 3]
    assert set(some.labels.tolist()) == {3} and len(digits.val[:7]) == 7
    assert torch.equal(digits.val[torch.tensor([5, 2])].images, digits.val.images[[5, 2]])
    with pytest.raises(ValueError, match="differ in length: 3 and 2"):
        Split(torch.zeros(3, 1, 28, 28), torch.zeros(2))


# Batches


def test_an_epoch_holds_every_example_once_at_the_index_that_it_names(digits):
    split = digits.val
    epoch = list(batches(split, 64, generator=torch.Generator().manual_seed(0)))
    assert [len(batch.labels) for batch in epoch] == [64, 64, 64, 64, 44]
    index = torch.cat([batch.index for batch in epoch])
    assert sorted(index.tolist()) == list(range(300)) and index.tolist() != list(range(300))
    for batch in epoch:
        assert torch.equal(batch.images, split.images[batch.index])
        assert torch.equal(batch.labels, split.labels[batch.index])


def test_the_order_follows_the_generator_and_differs_between_epochs(digits):
    def order(generator):
        return torch.cat([batch.index for batch in batches(digits.val, 100, generator=generator)]).tolist()

    generator = torch.Generator().manual_seed(3)
    first, second = order(generator), order(generator)
    assert first != second and first == order(torch.Generator().manual_seed(3))
    assert order(None) == list(range(300))


def test_augmentation_changes_the_images_and_keeps_labels_and_index(digits):
    views = batches(digits.val, 64, generator=torch.Generator(), augment=partial(random_shift, pixels=2))
    for images, labels, index in views:
        assert torch.equal(labels, digits.val.labels[index])
        assert images.shape == digits.val.images[index].shape and not torch.equal(images, digits.val.images[index])


def test_batches_refuses_no_size_and_augmentation_without_a_seed(digits):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(batches(digits.val, 0))
    with pytest.raises(ValueError, match="augment needs a generator"):
        next(batches(digits.val, 8, augment=partial(random_shift, pixels=2)))


# Inputs of any kind


def test_a_split_holds_any_inputs_under_both_names():
    tokens = torch.arange(12).reshape(4, 3)
    split = Split({"input_ids": tokens, "attention_mask": tokens > 0}, labels=torch.rand(4, 5))
    assert len(split) == 4 and split.images is split.inputs and split.device.type == "cpu"
    some = split[torch.tensor([3, 1])]
    assert some.inputs["input_ids"].tolist() == [[9, 10, 11], [3, 4, 5]] and some.labels.shape == (2, 5)
    assert len(Split(tokens)) == 4 and Split(tokens)[:2].labels is None
    assert Split(tokens).to("cpu").labels is None


@pytest.mark.parametrize(
    ("inputs", "labels", "complaint"),
    [
        ([[1.0, 2.0]], None, "a Split holds tensors, got list as inputs: .* DataLoader"),
        ({"text": ["a", "b"]}, None, "a Split holds tensors, got list as text"),
        ({}, None, "needs inputs, got an empty dictionary"),
        (torch.zeros(2, 3), [0, 1], r"labels must be a tensor or None, got list: use torch.tensor\(labels\)"),
        (torch.zeros(2, 3), torch.tensor(0), "labels must have a first dimension"),
        (torch.tensor(1.0), None, "inputs must have a first dimension"),
        ({"a": torch.zeros(2), "b": torch.zeros(3)}, None, "inputs differ in length: a 2, b 3"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), None, r"pictures in bytes .*images.float\(\) / 255"),
    ],
)
def test_a_wrong_kind_is_refused_when_the_split_is_made(inputs, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        Split(inputs, labels)


def test_batches_of_a_dictionary_go_together():
    split = Split({"a": torch.arange(10), "b": torch.arange(10) * 2}, torch.arange(10))
    for batch in batches(split, 4, generator=torch.Generator().manual_seed(0)):
        assert torch.equal(batch.inputs["a"] * 2, batch.inputs["b"]) and torch.equal(batch.labels, batch.inputs["a"])
        assert torch.equal(batch.index, batch.labels) and batch.images is batch.inputs


def test_processes_share_each_batch_and_see_the_views_that_one_would_see(digits):
    def epoch(rank, processes):
        options = {"generator": torch.Generator().manual_seed(0), "augment": partial(random_shift, pixels=2)}
        return list(batches(digits.val, 64, rank=rank, processes=processes, **options))

    for whole, *parts in zip(epoch(0, 1), epoch(0, 3), epoch(1, 3), epoch(2, 3), strict=True):
        for rank, part in enumerate(parts):
            assert torch.equal(part.index, whole.index[rank::3]) and torch.equal(part.images, whole.images[rank::3])


# Batches from elsewhere


def test_as_batch_reads_pairs_dictionaries_and_tensors():
    x, y = torch.zeros(2, 3), torch.zeros(2)
    for given in ((x, y), [x, y], {"x": x, "labels": y}, {"x": x, "label": y}):
        batch = as_batch(given)
        assert batch.labels is y and batch.index is None
        assert (batch.inputs if isinstance(batch.inputs, torch.Tensor) else batch.inputs["x"]) is x
    for given in (x, (x,), [x], {"x": x}):
        assert as_batch(given).labels is None
    place = torch.tensor([4, 7])
    assert as_batch({"x": x, "labels": y, "index": place}) == ({"x": x}, y, place)
    assert as_batch(as_batch((x, y))).inputs is x
    for bad, found in (((x, y, y), "3 parts"), ("text", "str"), (None, "NoneType")):
        with pytest.raises(ValueError, match=f"got {found}: pass adapter="):
            as_batch(bad)


def test_interleaved_sources_are_spread_evenly_and_each_keeps_its_order():
    mixed = list(interleave([range(3), range(100, 109)], [3, 9]))
    assert [entry for entry in mixed if entry < 100] == [0, 1, 2]
    assert [entry for entry in mixed if entry >= 100] == list(range(100, 109))
    places = [place for place, entry in enumerate(mixed) if entry < 100]
    assert all(3 <= b - a <= 5 for a, b in zip(places, places[1:], strict=False)) and 1 <= places[0] <= 2
    assert list(interleave([range(3)], [3])) == [0, 1, 2]
    with pytest.raises(ValueError, match="of 4 batches, by its length, gave only 3"):
        list(interleave([range(3)], [4]))


def test_map_tensors_keeps_the_structure():
    given = {"a": torch.ones(2), "b": [torch.ones(1), "text"], "c": as_batch((torch.ones(3), None))}
    twice = map_tensors(lambda tensor: 2 * tensor, given)
    assert twice["a"].tolist() == [2, 2] and twice["b"][0].item() == 2 and twice["b"][1] == "text"
    assert type(twice["c"]) is type(given["c"]) and twice["c"].labels is None
