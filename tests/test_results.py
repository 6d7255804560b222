"""results.py: what was saved comes back, what cannot be trusted is refused, and no failure costs the old file."""

import errno
import json
import math
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from kdutils import (
    CNN,
    MLP,
    ConvNet,
    ResultsError,
    load_model,
    load_results,
    predict_logits,
    results,
    save_model,
    save_results,
)

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["kdutils"])

MODELS = {
    "MLP": lambda: MLP((20, 12), dropout=0.5, input_dropout=0.2),
    "linear": lambda: MLP((), num_classes=3),
    "CNN": lambda: CNN((4, 6, 8), hidden=16, dropout=0.5, num_classes=7),
    "ConvNet": lambda: ConvNet(((3,), (4,), (5, 6)), num_classes=7),
}


class Payload:
    """Unpickling this creates the file at ``path``."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.manual_seed(0)
    return save_model(tmp_path / "student.safetensors", MLP((8,)), seed=0)


def refusal(path: Path) -> str:
    with pytest.raises(ResultsError) as caught:
        load_model(path)
    assert str(path.parent) in str(caught.value)
    return str(caught.value)


def logits_in_new_process(path: Path, images: Path, logits: Path) -> None:
    np.save(logits, predict_logits(load_model(path), torch.from_numpy(np.load(images))).numpy())


# Models


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
def test_a_model_comes_back_in_eval_mode_with_its_weights_and_settings(tmp_path, build):
    model = build().train()
    loaded = load_model(save_model(tmp_path / "a.safetensors", model, seed=3, val_errors=91))
    assert type(loaded) is type(model) and loaded.config == model.config and str(loaded) == str(model)
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))
    assert not any(module.training for module in loaded.modules()) and model.training
    assert load_results(tmp_path / "a.json")["notes"] == {"seed": 3, "val_errors": 91}
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.safetensors"]


def test_a_new_process_gets_the_same_logits(tmp_path):
    torch.manual_seed(1)
    model, images = CNN((4, 8), hidden=16, dropout=0.5), torch.rand(50, 1, 28, 28)
    path = save_model(tmp_path / "a.safetensors", model)
    np.save(tmp_path / "images.npy", images.numpy())
    files = path, tmp_path / "images.npy", tmp_path / "logits.npy"
    process = PROCESSES.Process(target=logits_in_new_process, args=files)
    process.start()
    process.join(120)
    assert process.exitcode == 0
    # Not to the bit: another process may divide the sums among other threads.
    np.testing.assert_allclose(np.load(files[2]), predict_logits(model, images).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "dump",
    [
        lambda thing, path: torch.save(thing, path),
        lambda thing, path: path.write_bytes(pickle.dumps(thing)),
        lambda thing, path: path.write_bytes(pickle.dumps(thing, protocol=0)),
    ],
    ids=["torch.save", "pickle", "text pickle"],
)
def test_a_pickle_is_refused_and_its_code_never_runs(saved, tmp_path, dump):
    trap = tmp_path / "ran"
    pickle.loads(pickle.dumps(Payload(trap))).close()
    assert trap.exists()  # the payload works where someone is careless
    trap.unlink()
    dump({"weight": Payload(trap)}, saved)
    assert "is not a safetensors file" in refusal(saved) and "Save the model again" in refusal(saved)
    assert not trap.exists()


def test_a_pickle_is_called_a_pickle(saved):
    torch.save(MLP((8,)).state_dict(), saved)
    assert "a pickle, which can run code when it is opened" in refusal(saved)


@pytest.mark.parametrize("length", [0, 4, 8, 100, 5000, -1])
def test_a_truncated_file_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    message = refusal(saved)
    assert str(saved) in message and "damaged or cut off" in message


def test_one_changed_byte_is_refused(saved):
    content = bytearray(saved.read_bytes())
    content[-7] ^= 1
    saved.write_bytes(content)
    assert "describes other weights" in refusal(saved)


def test_a_missing_sidecar_is_named(saved):
    saved.with_suffix(".json").unlink()
    assert f"{saved.with_suffix('.json')} is missing" in refusal(saved)


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"format": "kdutils-model-0"}, "does not describe a model in format kdutils-model-1"),
        ({"architecture": "os.system"}, "does not describe a model"),
        ({"sha256": "0" * 64}, "describes other weights"),
        ({"config": {"hidden": [9]}}, "do not fit the network"),
        ({"config": {"hidden": [8], "depth": 3}}, "depth"),
        ({"config": {"hidden": [0]}}, "hidden must be whole numbers"),
        ({"config": None}, "config"),
    ],
)
def test_a_sidecar_that_does_not_belong_is_refused(saved, change, complaint):
    sidecar = saved.with_suffix(".json")
    save_results(sidecar, load_results(sidecar) | change)
    message = refusal(saved)
    assert complaint in message and str(sidecar) in message


def test_the_sidecar_of_another_model_is_refused(saved, tmp_path):
    other = save_model(tmp_path / "other.safetensors", MLP((8,)))
    os.replace(other.with_suffix(".json"), saved.with_suffix(".json"))
    assert "describes other weights" in refusal(saved)


def test_a_foreign_network_a_foreign_name_and_an_absent_file_are_refused(tmp_path):
    with pytest.raises(ResultsError, match="can save MLP, CNN, ConvNet, got Linear"):
        save_model(tmp_path / "a.safetensors", torch.nn.Linear(2, 2))
    for act in (lambda path: save_model(path, MLP((8,))), load_model):
        with pytest.raises(ResultsError, match=r"must end in .safetensors, got .*a\.pt"):
            act(tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError, match="absent"):
        load_model(tmp_path / "absent.safetensors")
    assert os.listdir(tmp_path) == []


def test_notes_that_cannot_be_stored_leave_the_old_model_loadable(saved):
    before = load_model(saved).state_dict()
    with pytest.raises(ResultsError, match="cannot write"):
        save_model(saved, MLP((8,)), val_loss=math.nan)
    assert all(map(torch.equal, load_model(saved).state_dict().values(), before.values()))


# Measurements


def test_results_come_back_with_numpy_and_torch_values_as_plain_numbers(tmp_path):
    measured = {
        "errors": np.int64(91),
        "loss": np.float32(0.5),
        "all": np.arange(3),
        "t": torch.tensor([1.5]),
        "é": [None],
    }
    path = save_results(tmp_path / "r.json", measured)
    assert load_results(path) == {"errors": 91, "loss": 0.5, "all": [0, 1, 2], "t": [1.5], "é": [None]}


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, np.float32("nan"), np.array([1, np.inf]), torch.tensor([math.nan]), {1, 2}, object()]
)
def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path, bad):
    path = save_results(tmp_path / "r.json", {"errors": 91})
    with pytest.raises(ResultsError, match=f"cannot write {path}"):
        save_results(path, {"errors": 90, "more": [{"deep": bad}]})
    assert load_results(path) == {"errors": 91} and os.listdir(tmp_path) == ["r.json"]


@pytest.mark.parametrize("content", [b'{"errors": 9', b"", b"\x80\x04\x95", b"[1, 2]", b'"text"'])
def test_a_file_that_is_not_a_json_object_is_refused(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=f"{path} (is not valid JSON|must hold a JSON object)"):
        load_results(path)


def test_results_are_written_for_people_and_for_diffs(tmp_path):
    text = save_results(tmp_path / "r.json", {"b": 1, "a": "é"}).read_text(encoding="utf-8")
    assert text == '{\n "b": 1,\n "a": "é"\n}\n' and json.loads(text) == {"a": "é", "b": 1}


# Writing


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=str)
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, error):
    path = tmp_path / "r.json"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        results.write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["r.json"]


def test_the_bytes_are_on_the_disk_before_the_old_file_goes(tmp_path, monkeypatch):
    order = []
    for step in ("fsync", "replace"):
        real = getattr(os, step)
        monkeypatch.setattr(os, step, lambda *a, step=step, real=real: (order.append(step), real(*a))[1])
    results.write_atomically(tmp_path / "r", b"new")
    assert order == ["fsync", "replace"] and (tmp_path / "r").read_bytes() == b"new"
