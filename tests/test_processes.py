"""Two processes under torchrun get the result of one; if one is killed, the other says so and nothing is lost."""

import re
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from kdutils import batches
from kdutils.processes import ALONE, add_up, join_processes
from tests import two_processes
from tests.launch import launch

SCRIPT = Path(two_processes.__file__)


class Runs(NamedTuple):
    one: dict  # what each scenario gave in one process,
    first: dict  # in the first of two,
    second: dict  # and in the second
    killed: subprocess.CompletedProcess
    seconds: float  # from the start of the launch in which one was killed to its end
    left: int  # epochs in the checkpoint that it left


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    """One launch in which a process is killed, and one with all scenarios, which also goes on with the killed one."""
    folder = tmp_path_factory.mktemp("two")
    start = time.perf_counter()
    killed = launch(SCRIPT, folder, "--kill=1", processes=2)
    seconds = time.perf_counter() - start
    left = len(torch.load(folder / "killed.pt")["history"]["loss"])
    done = launch(SCRIPT, folder, processes=2)
    assert done.returncode == 0, done.stdout[-4000:]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = two_processes.train_all(tmp_path_factory.mktemp("one"))
    torch.set_num_threads(threads)
    return Runs(one, torch.load(folder / "0.pt"), torch.load(folder / "1.pt"), killed, seconds, left)


def without_seconds(history: dict) -> dict:
    return {name: value for name, value in history.items() if "seconds" not in name}


SCENARIOS = list(two_processes.scenarios(Path()))
OTHER_THAN_ONE = (
    "batch norm",
    "resumed",
    "uninterrupted",
)  # each process normalises, and draws noise for, its own share


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_process_has_the_same_weights_and_history(runs, name):
    first, second = runs.first[name], runs.second[name]
    assert all(map(torch.equal, first["weights"].values(), second["weights"].values()))
    assert without_seconds(first["history"]) == without_seconds(second["history"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in OTHER_THAN_ONE])
def test_two_processes_get_what_one_gets(runs, name):
    one, two = runs.one[name], runs.first[name]
    for expected, got in zip(one["weights"].values(), two["weights"].values(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)
    for part in ("loss", "soft", "hard", "val_loss"):
        assert two["history"][part] == pytest.approx(one["history"][part], rel=1e-4), part
    for part in ("val_errors", "best_epoch"):
        assert two["history"][part] == one["history"][part], part


@pytest.mark.slow
def test_batch_norm_learns_and_ends_with_one_set_of_running_means(runs):
    trained = runs.first["batch norm"]
    assert trained["history"]["val_errors"][-1] < 70  # of 100; guessing makes 90
    running = [tensor for name, tensor in trained["weights"].items() if "running" in name]
    assert len(running) == 2 and all(tensor.abs().max() > 0 for tensor in running)


@pytest.mark.slow
def test_dropout_draws_for_each_process_and_each_epoch(runs):
    first, second = (torch.stack(part["uninterrupted"]["drawn"]) for part in (runs.first, runs.second))
    assert len(torch.unique(torch.cat([first, second]), dim=0)) > len(first) * 1.8


@pytest.mark.slow
def test_the_scenarios_differ_from_their_neighbours(runs):
    """A best epoch that is the last, or a share without labels that never comes, would test nothing."""
    assert runs.one["best"]["history"]["best_epoch"] not in (1, 8)
    assert runs.one["many labels"]["history"]["val_errors"] == []
    plain, augmented = (runs.one[name]["history"]["loss"] for name in ("split", "augmented"))
    assert plain != augmented
    split = two_processes.tokens(two_processes.TRAIN[:40], empty_rows=True)
    generator = torch.Generator().manual_seed(0)
    shares = [b.labels for b in batches(split, 4, generator=generator, rank=1, processes=2)]
    assert any((labels == -100).all() for labels in shares)


@pytest.mark.slow
def test_a_killed_process_ends_all_with_a_clear_word(runs):
    assert runs.killed.returncode != 0
    assert runs.seconds < 120
    assert "another process of this run has ended" in runs.killed.stdout or "SIGKILL" in runs.killed.stdout


@pytest.mark.slow
def test_after_a_killed_process_the_same_command_goes_on(runs):
    assert runs.left == 2, "it was not killed in its third epoch"
    resumed, whole = runs.first["resumed"], runs.first["uninterrupted"]
    assert all(map(torch.equal, resumed["weights"].values(), whole["weights"].values()))
    assert without_seconds(resumed["history"]) == without_seconds(whole["history"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, words",
    [
        ("no sampler", "2 processes train together.*DistributedSampler"),
        ("too small", "the last batch has 1 of 65 examples, too few for 2 processes"),
        ("other teachers", "teacher differs between the 2 processes.*torch.manual_seed"),
        ("other examples", "train differs between the 2 processes"),
        ("checkpoint of one", "checkpoint differs between the 2 processes"),
        ("shared validation", "val comes from a loader with a DistributedSampler"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_every_process(runs, name, words):
    assert runs.first[name] == runs.second[name]
    assert re.search(words, runs.first[name])


def test_a_sampler_that_is_shared_is_told_the_epoch():
    """Else it gives every epoch in the same order."""
    data = two_processes.loader(two_processes.TRAIN[:64])
    two_processes.fit(two_processes.network(), data, None, two_processes.config(epochs=3))
    assert data.sampler.epoch == 2


def test_one_process_has_nobody_to_wait_for(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join_processes(torch.device("cpu")) == ALONE == (0, 1)
    tensor = torch.ones(2)
    assert add_up(tensor, ALONE) is tensor
