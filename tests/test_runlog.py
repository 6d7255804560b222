"""The record of long runs: nothing is made twice, nothing is lost, several processes may share it."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

import kdutils

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "experiments"))

import choosing
from runlog import RunLog

PROCESSES = multiprocessing.get_context("forkserver")


@pytest.fixture
def log(tmp_path) -> RunLog:
    return RunLog("some", results=tmp_path, scratch=tmp_path / "scratch")


def test_a_run_is_stored_with_its_settings_and_machine(log):
    with log.claim(model="student", seed=3) as run:
        run["test_errors"] = 74
    (stored,) = log.runs()
    assert (stored["model"], stored["seed"], stored["test_errors"]) == ("student", 3, 74)
    assert stored["seconds"] >= 0 and stored["threads"] >= 1 and {"torch", "processor", "gpu"} <= set(stored)
    assert log.runs(seed=3) == [stored] and log.runs(seed=4) == []


def test_a_stored_run_is_not_made_again(log):
    for _ in range(2):
        with log.claim(seed=1, kept=[7, 8]) as run:
            if run:
                run["n"] = 1
    assert run is None and len(log.runs()) == 1


def test_a_run_that_fails_is_not_stored_and_can_be_made_again(log):
    with pytest.raises(ZeroDivisionError), log.claim(seed=1) as run:
        run["n"] = 1 / 0
    assert log.runs() == []
    with log.claim(seed=1) as run:
        run["n"] = 2
    assert [stored["n"] for stored in log.runs()] == [2]


def fill(folder: Path, count: int) -> None:
    log = RunLog("some", results=folder, scratch=folder / "scratch")
    for seed in range(count):
        with log.claim(seed=seed) as run:
            if run:
                time.sleep(0.01)
                run["by"] = os.getpid()


def hold(folder: Path, ready) -> None:
    log = RunLog("some", results=folder, scratch=folder / "scratch")
    with log.claim(seed=0):
        ready.set()
        time.sleep(60)


@pytest.mark.slow
def test_processes_share_the_work_and_lose_nothing(log, tmp_path):
    workers = [PROCESSES.Process(target=fill, args=(tmp_path, 30)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
        assert worker.exitcode == 0
    assert sorted(run["seed"] for run in log.runs()) == list(range(30))
    assert len({run["by"] for run in log.runs()}) > 1


@pytest.mark.slow
def test_what_another_process_does_is_left_to_it_until_it_dies(log, tmp_path):
    ready = PROCESSES.Event()
    worker = PROCESSES.Process(target=hold, args=(tmp_path, ready))
    worker.start()
    assert ready.wait(timeout=60)
    with log.claim(seed=0) as run:
        assert run is None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(timeout=60)
    with log.claim(seed=0) as run:
        run["n"] = 1
    assert len(log.runs()) == 1


def test_a_kept_network_is_trained_once(log):
    data, built = kdutils.load_dataset("digits"), []

    def build() -> kdutils.MLP:
        built.append(1)
        return kdutils.MLP((4,))

    config = kdutils.TrainConfig(epochs=1)
    first, second = (log.kept("small", build, data.train, None, config) for _ in range(2))
    assert len(built) == 1
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert not list(log.scratch.glob("*.checkpoint"))


def test_a_line_of_a_table_chooses_with_its_own_seeds_and_is_made_once(log, monkeypatch):
    monkeypatch.setattr(choosing, "LOG", log)
    seen = []

    def train(seed: int, lr: float, units: int) -> dict:
        seen.append((seed, lr))
        return {"val_errors": int(100 * abs(lr - 0.1)) + seed % 2}

    for _ in range(2):
        choosing.compare("width", train, seeds=(0, 1, 2), units=8)
    choices = [(seed, option["lr"]) for option in choosing.RATES for seed in choosing.CHOICE_SEEDS]
    assert seen == [*choices, (0, 0.1), (1, 0.1), (2, 0.1)]
    assert [run["seed"] for run in log.runs(stage="measure", units=8, lr=0.1)] == [0, 1, 2]
