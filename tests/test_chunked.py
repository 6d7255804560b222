"""The loss in chunks: the same numbers as in one piece, without ever holding all the logits."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from kdutils import kd_loss
from kdutils.chunked import chunked_kd_loss
from tests.logits import logits

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "book" / "experiments" / "bench_chunked.py"
RECORD = ROOT / "book" / "results" / "bench-chunked.json"

POSITIONS, CLASSES = (3, 4), 11
MASK = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 1], [1, 1, 0, 0]]).bool()


def layers(dtype=torch.float64, bias=True):
    """Hidden states of a student (5 wide) and a teacher (7 wide), and their last layers."""
    student, teacher = logits(*POSITIONS, 5, seed=1, dtype=dtype), logits(*POSITIONS, 7, seed=2, dtype=dtype)
    heads = [nn.Linear(width, CLASSES, bias=bias, dtype=dtype) for width in (5, 7)]
    for seed, head in enumerate(heads):
        for parameter in head.parameters():
            parameter.data = logits(*parameter.shape, seed=seed + 3, scale=1.0, dtype=dtype)
    return student.requires_grad_(), heads[0], teacher.requires_grad_(), heads[1]


def plain(student, student_head, teacher, teacher_head, temperature=1.0, *, mask=None):
    return kd_loss(student_head(student), teacher_head(teacher), temperature, mask=mask)


def results(loss, *arguments, **options):
    """Value and gradients: hidden states, weight, bias."""
    student, head, teacher, teacher_head = arguments
    for tensor in (student, teacher, *head.parameters(), *teacher_head.parameters()):
        tensor.grad = None
    value = loss(*arguments, **options)
    value.backward()
    assert teacher.grad is None and all(parameter.grad is None for parameter in teacher_head.parameters())
    return [value.detach(), student.grad, *(parameter.grad for parameter in head.parameters())]


@pytest.mark.parametrize("chunk_size", [1, 5, 6, 12, 100])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "mask"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_value_and_gradients_are_those_of_kd_loss(chunk_size, mask, temperature):
    expected = results(plain, *layers(), temperature=temperature, mask=mask)
    found = results(chunked_kd_loss, *layers(), temperature=temperature, mask=mask, chunk_size=chunk_size)
    assert len(found) == 4
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-12)


def test_single_precision_agrees_to_1e_5():
    expected, found = (results(loss, *layers(torch.float32)) for loss in (plain, chunked_kd_loss))
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())


def test_a_head_without_bias():
    expected, found = (results(loss, *layers(bias=False), temperature=2.0) for loss in (plain, chunked_kd_loss))
    assert len(found) == 3
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, wanted)


def test_a_head_may_be_a_weight_and_a_bias():
    student, head, teacher, teacher_head = layers()
    expected = chunked_kd_loss(student, head, teacher, teacher_head)
    assert (
        chunked_kd_loss(student, (head.weight, head.bias), teacher, [teacher_head.weight, teacher_head.bias])
        == expected
    )
    cut = (head.weight[:9], head.bias[:9]), (teacher_head.weight[:9], teacher_head.bias[:9])  # as the message advises
    shorter = kd_loss(head(student)[..., :9], teacher_head(teacher)[..., :9], 1.0)
    torch.testing.assert_close(chunked_kd_loss(student, cut[0], teacher, cut[1]), shorter)


def test_padding_may_hold_nan():
    student, head, teacher, teacher_head = layers()
    expected = chunked_kd_loss(student, head, teacher, teacher_head, mask=MASK)
    padded = [x.detach().masked_fill(~MASK[..., None], math.nan).requires_grad_() for x in (student, teacher)]
    value = chunked_kd_loss(padded[0], head, padded[1], teacher_head, mask=MASK)
    value.backward()
    assert value == expected
    assert (padded[0].grad[~MASK] == 0).all() and padded[0].grad.isfinite().all()


def test_frozen_layers_and_no_grad():
    student, head, teacher, teacher_head = layers()
    expected = results(plain, student, head, teacher, teacher_head)
    head.requires_grad_(False)
    student.grad = None
    chunked_kd_loss(student, head, teacher, teacher_head).backward()
    torch.testing.assert_close(student.grad, expected[1])
    assert head.weight.grad is None or torch.equal(head.weight.grad, expected[2])
    with torch.no_grad():
        torch.testing.assert_close(chunked_kd_loss(student, head, teacher, teacher_head), expected[0])


def test_bfloat16_is_computed_as_kd_loss_does():
    expected, found = (results(loss, *layers(torch.bfloat16)) for loss in (plain, chunked_kd_loss))
    assert found[0].dtype == torch.float32 and found[1].dtype == torch.bfloat16
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.float(), wanted.float(), rtol=0.02, atol=0.02 * wanted.abs().max().item())


# --- what is held ------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes, forward or backward."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


def test_no_tensor_is_larger_than_the_logits_of_a_chunk():
    positions, classes, width, chunk_size = 64, 1000, 4, 8
    student, teacher = torch.randn(2, positions, width, requires_grad=True)
    heads = [nn.Linear(width, classes) for _ in range(2)]
    largest = {}
    for name, loss in (("plain", plain), ("chunked", lambda *a: chunked_kd_loss(*a, chunk_size=chunk_size))):
        with Largest() as mode:
            value = loss(student, heads[0], teacher, heads[1])
            forward = mode.numel
            mode.numel = 0
            value.backward()
        largest[name] = forward, mode.numel
    assert largest["plain"] == (positions * classes,) * 2  # the instrument sees what it should
    assert largest["chunked"] == (chunk_size * classes,) * 2


def largest_kept(loss, *arguments, **options):
    """The size of the largest tensor that waits for the backward pass."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()) or tensor, lambda x: x):
        loss(*arguments, **options)
    return max(sizes)


def test_no_logits_wait_for_the_backward_pass():
    student, teacher = torch.randn(2, 64, 4, requires_grad=True)
    heads = [nn.Linear(4, 1000) for _ in range(2)]
    assert largest_kept(plain, student, heads[0], teacher, heads[1]) == 64 * 1000
    assert largest_kept(chunked_kd_loss, student, heads[0], teacher, heads[1], chunk_size=8) < 8 * 1000


@pytest.mark.slow
def test_the_benchmark_runs_and_saves_memory(tmp_path):
    sizes = {"tokens": 1024, "classes": 20_000, "width": 8, "chunk_size": 32}
    output = tmp_path / "record.json"
    options = [f"--{name.replace('_', '-')}={size}" for name, size in sizes.items()]
    command = [sys.executable, str(SCRIPT), *options, f"--output={output}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    record = json.loads(output.read_text())
    assert {name: record[name] for name in sizes} == sizes
    check_record(record, share=1 / 2)  # tensors this small come from a heap that keeps what it once had


def test_the_record_keeps_what_the_function_promises():
    record = json.loads(RECORD.read_text())
    assert (record["tokens"], record["classes"]) == (4096, 151_936)
    check_record(record, share=1 / 3)


def check_record(record, share):
    plain, chunked = record["runs"]
    assert (plain["way"], chunked["way"]) == ("plain", "chunked")
    assert plain["loss"] == pytest.approx(chunked["loss"], rel=1e-5)
    assert plain["peak_bytes"] > 4 * 4 * record["tokens"] * record["classes"]  # four tensors of all the logits
    assert chunked["peak_bytes"] <= share * plain["peak_bytes"]
    assert set(record["gradient_difference"]) == {"hidden", "weight", "bias"}
    assert all(difference <= 1e-5 for difference in record["gradient_difference"].values())


# --- input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"temperature": 0}, "temperature"),
        ({"chunk_size": 0}, "chunk_size must be a whole number of at least 1, got 0"),
        ({"chunk_size": 2.0}, "chunk_size"),
        ({"chunk_size": True}, "chunk_size"),
        ({"student_head": nn.Linear(5, 12)}, r"same classes, got 12 and 11: .*weight\[:V\]"),
        ({"teacher_head": nn.Conv1d(7, 11, 1)}, r"teacher_head must be an nn.Linear or \(weight, bias\), got Conv1d"),
        ({"student_head": (torch.zeros(11, 5),)}, "student_head must be an nn.Linear"),
        ({"student_head": (torch.zeros(11), None)}, r"student_head's weight must be a tensor of shape \(V, d\)"),
        (
            {"student_head": (torch.zeros(11, 5), torch.zeros(5))},
            r"student_head's bias must have shape \(11,\), got \(5,\)",
        ),
        ({"student_head": (torch.full((11, 5), math.nan), None)}, "student_head's weight must be finite"),
        ({"teacher_head": (torch.zeros(11, 7), torch.full((11,), math.inf))}, "teacher_head's bias must be finite"),
        ({"student_hidden": torch.zeros(3, 4, 6)}, r"student_hidden of shape \(3, 4, 6\) does not fit .*\(11, 5\)"),
        ({"student_hidden": torch.zeros(3, 5)}, r"same positions, got shapes \(3, 5\) and \(3, 4, 7\)"),
        ({"student_hidden": torch.zeros(1, 4, 5)}, "same positions"),  # would broadcast
        ({"teacher_hidden": torch.zeros(3, 4, 7).long()}, "teacher_hidden must be floating point"),
        ({"student_hidden": torch.full((3, 4, 5), math.nan)}, "student_hidden must be finite"),
        ({"mask": torch.ones(3, 4)}, "mask must be a bool tensor"),
        ({"mask": torch.ones(4, dtype=torch.bool)}, "mask must have the shape"),
        ({"mask": torch.zeros(3, 4, dtype=torch.bool)}, "no position counts"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = dict(
        zip(("student_hidden", "student_head", "teacher_hidden", "teacher_head"), layers(torch.float32), strict=True)
    )
    with pytest.raises(ValueError, match=message):
        chunked_kd_loss(**arguments | change)
