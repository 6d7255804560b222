"""results.py: what was saved comes back, what cannot be trusted is refused, and no failure costs the old file."""

import errno
import json
import math
import multiprocessing
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

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
        ({"architecture": "os.system"}, "is of os.system, which is no network of kdutils: build one and pass it"),
        ({"shared": {"a": "b"}}, "names shared weights that"),
        ({"shared": 3}, "names shared weights that"),
        ({"sha256": "0" * 64}, "describes other weights"),
        ({"architecture": 3}, "does not describe a model"),
        ({"config": {"hidden": [9]}}, "do not fit the network (MLP, where"),
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


def test_a_foreign_name_and_an_absent_file_are_refused(tmp_path):
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


def test_a_network_from_before_there_was_colour_is_loaded(tmp_path):
    model = CNN((4,), hidden=6)
    path = save_model(tmp_path / "a.safetensors", model)
    sidecar = load_results(tmp_path / "a.json")
    del sidecar["config"]["in_channels"], sidecar["config"]["image_size"]
    save_results(tmp_path / "a.json", sidecar)
    assert load_model(path).config == model.config


def test_pictures_of_another_kind_come_back(tmp_path):
    model = CNN((4, 5), hidden=6, in_channels=3, image_size=(20, 32))
    loaded = load_model(save_model(tmp_path / "a.safetensors", model))
    assert loaded.config == model.config and loaded(torch.rand(2, 3, 20, 32)).shape == (2, 10)


# Models of other people


class Tied(nn.Module):
    """An embedding and a head that share their weight, as in a language model, and a buffer."""

    def __init__(self, words: int = 6):
        super().__init__()
        self.embedding = nn.Embedding(words, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, words)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.norm(self.embedding(tokens)))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


@pytest.mark.parametrize("form", ["network", "builder"])
def test_a_torchvision_network_comes_back_into_one_that_the_caller_built(tmp_path, form):
    torch.manual_seed(0)
    model = resnet18(num_classes=3)
    model(torch.rand(4, 3, 32, 32))  # batch norm notes its first means
    path = save_model(tmp_path / "teacher.safetensors", model, val_errors=7)
    sidecar = load_results(tmp_path / "teacher.json")
    assert sidecar["architecture"] == "torchvision.models.resnet.ResNet" and sidecar["notes"] == {"val_errors": 7}
    own = resnet18(num_classes=3).train()
    assert not same_weights(own, model)
    loaded = load_model(path, model=own if form == "network" else lambda: own)
    assert loaded is own and same_weights(own, model) and not any(module.training for module in own.modules())
    images = torch.rand(5, 3, 32, 32)
    assert torch.equal(predict_logits(loaded, images), predict_logits(model, images))


def test_without_a_network_to_fill_the_message_says_how(tmp_path):
    path = save_model(tmp_path / "a.safetensors", Tied())
    message = refusal(path)
    assert f"{tmp_path / 'a.json'} is of {Tied.__module__}.Tied, which is no network of kdutils" in message
    assert "load_model(path, model=network)" in message
    with pytest.raises(ResultsError, match="model must be a network or a function that builds one, got dict"):
        load_model(path, model=dict)


def test_a_foreign_class_that_bears_one_of_our_names_is_foreign(tmp_path):
    class MLP(nn.Sequential):
        pass

    path = save_model(tmp_path / "a.safetensors", MLP(nn.Linear(2, 2)))
    assert "is no network of kdutils" in refusal(path)


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    model = Tied(words=500)
    path = save_model(tmp_path / "a.safetensors", model)
    assert load_results(tmp_path / "a.json")["shared"] == {"head.weight": "embedding.weight"}
    assert path.stat().st_size < 4 * (500 * 4 + 500 + 20) + 1000  # float32, with a header
    loaded = load_model(path, model=Tied(words=500))
    assert same_weights(loaded, model) and loaded.head.weight is loaded.embedding.weight
    untied = Tied(words=500)
    untied.head.weight = nn.Parameter(torch.zeros(500, 4))
    assert torch.equal(load_model(path, model=untied).head.weight, model.embedding.weight)


def test_weights_that_overlap_in_memory_are_stored_each_for_itself(tmp_path):
    model = nn.Module()
    whole = torch.arange(12.0).reshape(3, 4)
    for name, part in {"whole": whole, "row": whole[1], "turned": whole.t(), "again": whole, "none": whole[:0]}.items():
        model.register_buffer(name, part)
    path = save_model(tmp_path / "a.safetensors", model)
    empty = nn.Module()
    for name, part in model.named_buffers(remove_duplicate=False):
        empty.register_buffer(name, torch.zeros(part.shape))
    assert same_weights(load_model(path, model=empty), model)
    assert load_results(tmp_path / "a.json")["shared"] == {"again": "whole"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_types_of_the_weights_are_kept(tmp_path, dtype):
    model = Tied().to(dtype)
    own = Tied()
    weight = own.embedding.weight
    loaded = load_model(save_model(tmp_path / "a.safetensors", model), model=own)
    assert loaded.embedding.weight.dtype == dtype and loaded.norm.num_batches_tracked.dtype == torch.int64
    assert same_weights(loaded, model) and loaded.head.weight is loaded.embedding.weight is weight
    ours = CNN((2,), hidden=3).to(dtype)
    assert same_weights(load_model(save_model(tmp_path / "b.safetensors", ours)), ours)


@pytest.mark.parametrize(
    "build, message",
    [
        (
            lambda: Tied(words=7),
            r"has embedding.weight as \(6, 4\) float32 in place of \(7, 4\) float32; has head.weight as .*",
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 6)),
            "the file lacks 0.weight; lacks 0.bias; has .* too many and 7 more",
        ),
        (lambda: Tied().to("meta"), "is on the meta device, which has no memory"),
    ],
)
def test_a_network_that_the_weights_do_not_fit_is_left_as_it_was(tmp_path, build, message):
    path = save_model(tmp_path / "a.safetensors", Tied())
    own = build()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    with pytest.raises(ResultsError, match=message) as caught:
        load_model(path, model=own)
    assert str(path) in str(caught.value) and f"{Tied.__module__}.Tied" in str(caught.value)
    assert all(before[name].is_meta or torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())
    assert own.training


def test_whole_numbers_in_place_of_fractions_are_no_fit(tmp_path):
    numbers, fractions = nn.Module(), nn.Module()
    numbers.register_buffer("a", torch.ones(3, dtype=torch.int64))
    fractions.register_buffer("a", torch.zeros(3))
    path = save_model(tmp_path / "a.safetensors", numbers)
    with pytest.raises(ResultsError, match=r"has a as \(3,\) int64 in place of \(3,\) float32"):
        load_model(path, model=fractions)


def not_plain() -> dict[str, nn.Module]:
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"secret": 1}

    sparse = nn.Module()
    sparse.register_buffer("a", torch.eye(3).to_sparse())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(MLP((4,)), {nn.Linear}, dtype=torch.qint8)
    complex128 = nn.Module()
    complex128.register_buffer("a", torch.ones(2, dtype=torch.complex128))
    return {
        "_packed_params.dtype of this MLP": quantised,
        "_extra_state of this Extra is no plain tensor, but a dict": Extra(2, 2),
        "a of this Module is no plain tensor, but a Tensor": sparse,
        "weight of this Linear is on the meta device": nn.Linear(2, 2, device="meta"),
        "safetensors cannot store a Module": complex128,
    }


@pytest.mark.parametrize("message", not_plain())
def test_what_safetensors_cannot_hold_is_named_and_nothing_is_written(tmp_path, message):
    with pytest.raises(ResultsError, match=message) as caught:
        save_model(tmp_path / "a.safetensors", not_plain()[message])
    assert f"cannot write {tmp_path / 'a.safetensors'}: " in str(caught.value)
    assert os.listdir(tmp_path) == []


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


def test_a_place_that_cannot_be_written_is_named_and_not_the_temporary_file(tmp_path, monkeypatch):
    absent = tmp_path / "absent" / "a.safetensors"
    with pytest.raises(FileNotFoundError) as caught:
        save_model(absent, MLP((4,)))
    assert str(caught.value) == f"[Errno 2] No such file or directory: '{absent}'"
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'r.json'}'"):
        save_results(tmp_path / "r.json", {})


def test_the_bytes_are_on_the_disk_before_the_old_file_goes(tmp_path, monkeypatch):
    order = []
    for step in ("fsync", "replace"):
        real = getattr(os, step)
        monkeypatch.setattr(os, step, lambda *a, step=step, real=real: (order.append(step), real(*a))[1])
    results.write_atomically(tmp_path / "r", b"new")
    assert order == ["fsync", "replace"] and (tmp_path / "r").read_bytes() == b"new"
