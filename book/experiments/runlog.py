"""The record of a long experiment: a JSON file of runs that is saved after each one.

Several processes may fill one record at the same time. A run that is there is not made
again, so an experiment is started, stopped and started again as one likes.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn

from kdutils import (
    environment,
    fit,
    load_model,
    load_results,
    save_model,
    save_results,
)

RESULTS = Path(__file__).resolve().parents[1] / "results"
# For locks and for networks too large for the book. It may be deleted: what it held is
# then trained again.
SCRATCH = Path.home() / ".cache" / "kdutils" / "experiments"


class RunLog:
    """The runs of one experiment, in ``book/results/<name>.json``."""

    def __init__(self, name: str, results: Path = RESULTS, scratch: Path = SCRATCH):
        self.path = results / f"{name}.json"
        self.scratch = scratch / name
        self.scratch.mkdir(parents=True, exist_ok=True)

    def runs(self, **settings) -> list[dict]:
        """All runs so far that had these settings."""
        found = load_results(self.path)["runs"] if self.path.exists() else []
        return [run for run in found if settings.items() <= run.items()]

    @contextmanager
    def claim(self, **settings) -> Iterator[dict | None]:
        """A dict to put this run's results into; it is stored when the block ends well.

        None if the run is stored already, or if another process is at it.
        """
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        lock = FileLock(self.scratch / f"{key[:16]}.lock")
        try:
            lock.acquire(timeout=0)  # ends with its process, however that ends
        except Timeout:
            yield None
            return
        try:
            if self.runs(**settings):
                yield None
                return
            run, start = dict(settings), time.perf_counter()
            yield run
            run["seconds"] = round(time.perf_counter() - start, 1)
            self._append(run)
        finally:
            lock.release()

    def kept(
        self, name: str, build: Callable[[], nn.Module], *training, **options
    ) -> nn.Module:
        """A trained network from the scratch folder; ``fit`` makes what is missing.

        For networks that several runs use. One process trains it, the others wait.
        """
        path = self.scratch / f"{name}.safetensors"
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                network, checkpoint = build(), path.with_suffix(".checkpoint")
                fit(network, *training, checkpoint=checkpoint, run_name=name, **options)
                save_model(path, network)
                checkpoint.unlink()
        return load_model(path)

    def _append(self, run: dict) -> None:
        here = environment()
        run["threads"] = torch.get_num_threads()
        run |= {name: here[name] for name in ("torch", "processor", "gpu")}
        with FileLock(self.scratch / "record.lock"):
            record = load_results(self.path) if self.path.exists() else {"runs": []}
            record["runs"].append(run)
            save_results(self.path, record)
        shown = ("bias_sweep", "threads", "torch", "processor", "gpu")
        print(
            " ".join(f"{k}={v}" for k, v in run.items() if k not in shown), flush=True
        )
