"""The examples to copy that need Hugging Face's libraries, and those of ten lines, each started as a reader would."""

import importlib.util
import re
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from tests.launch import ROOT, finish, launch, start

EXAMPLES = ROOT / "book" / "examples"
TEN_LINES = sorted((EXAMPLES / "ten_lines").glob("*.py"))
ACCELERATE, TRAINER = EXAMPLES / "distill_accelerate.py", EXAMPLES / "distill_trainer.py"

pytestmark = pytest.mark.usefixtures("one_thread")


def errors(output: str, name: str) -> tuple[int, int]:
    """What a script printed about a network: errors, and of how many."""
    found = re.search(rf"^.*{name}: (\d+) errors of (\d+)", output, re.MULTILINE)
    assert found, output[-3000:]
    return int(found[1]), int(found[2])


def load(path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kill_when(command: list, is_there) -> None:
    """Start a script and kill it as soon as ``is_there()``."""
    process = start(*command)
    while process.poll() is None and not is_there():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert finish(process).returncode == -signal.SIGKILL, "it ended before it could be killed"


# --- ten lines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", TEN_LINES, ids=lambda path: path.stem)
def test_ten_lines_are_ten(path):
    lines = path.read_text().partition("# Ten lines.\n")[2].splitlines()
    assert 0 < len([line for line in lines if line]) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("path", TEN_LINES, ids=lambda path: path.stem)
def test_ten_lines_distil_a_student(path, capsys):
    torch.manual_seed(0)
    runpy.run_path(str(path), run_name="__main__")
    output = capsys.readouterr().out
    for name in ("teacher", "student"):
        wrong, count = errors(output, name)
        guessing = count / 2 if path.stem == "hugging_face" else count * 0.9
        assert wrong < guessing * 0.6, output


def test_there_are_three_of_ten_lines():
    assert [path.stem for path in TEN_LINES] == ["hugging_face", "loader", "own_loss"]


# --- what is missing, and what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, missing, words",
    [(ACCELERATE, "accelerate", "pip install accelerate"), (TRAINER, "transformers", "pip install transformers")],
)
def test_a_library_that_is_not_there_is_one_sentence(path, missing, words, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit, match=words):
        runpy.run_path(str(path))


# --- Accelerate --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_accelerate_goes_on_after_a_kill_and_two_processes_get_what_one_gets(tmp_path):
    """The run that was killed, in one process, and one that was left alone, in two, end with the same weights."""
    settings = ["--dataset", "digits", "--epochs", 12, "--teacher-width", 32]
    one, two = tmp_path / "one", tmp_path / "two"
    kill_when([ACCELERATE, "--out", one, *settings], lambda: list((one / "student").glob("000[2-9]")))
    resumed = launch(ACCELERATE, "--out", one, *settings)
    assert resumed.returncode == 0, resumed.stdout
    wrong, count = errors(resumed.stdout, "student")
    assert wrong < 0.6 * count
    together = launch(ACCELERATE, "--out", two, *settings, processes=2)
    assert together.returncode == 0, together.stdout[-3000:]
    assert errors(together.stdout, "student") == (wrong, count)
    for name in ("teacher.safetensors", "student.safetensors"):
        a, b = load_file(one / name), load_file(two / name)
        for part in a:
            torch.testing.assert_close(a[part], b[part], rtol=1e-4, atol=1e-5)


def test_accelerates_folder_belongs_to_one_run(tmp_path):
    check_settings = load(ACCELERATE).check_settings
    for _ in range(2):
        check_settings(tmp_path / "new" / "settings.json", {"epochs": 10, "lr": 0.1})
    with pytest.raises(SystemExit, match=r"new holds another run \(lr was 0.1\): name another folder"):
        check_settings(tmp_path / "new" / "settings.json", {"epochs": 10, "lr": 0.2})


# --- Trainer -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """What the script leaves with small networks, after it was killed once and started again."""
    folder = tmp_path_factory.mktemp("trainer")
    command = [TRAINER, "--out", folder, "--batch-size", 16, "--accumulate", 2]
    kill_when(command, lambda: list((folder / "student").glob("checkpoint-*/trainer_state.json")))
    done = launch(*command)
    assert done.returncode == 0, done.stdout[-3000:]
    (folder / "output").write_text(done.stdout)
    return folder


def newest(folder: Path) -> Path:
    (checkpoint,) = folder.glob("checkpoint-*")
    return checkpoint


@pytest.mark.slow
def test_the_trainer_distils_a_student_and_goes_on_after_a_kill(trained):
    output = (trained / "output").read_text()
    done = {name: int(steps) for name, steps in re.findall(r"(\w+): goes on from \S+checkpoint-(\d+)", output)}
    assert 0 < done["student"] < done["teacher"]  # the student was in the middle, the teacher at its end
    assert errors(output, "teacher")[0] < 30 and errors(output, "student")[0] < 60
    assert errors(output, "student")[1] == 200


@pytest.mark.slow
def test_the_trainer_takes_models_and_sentences_by_name(example, trained, tmp_path, monkeypatch, capsys):
    lines = [f"{'positive' if i % 2 else 'negative'}\tthe film was {'good' if i % 2 else 'bad'}" for i in range(60)]
    data = tmp_path / "own.tsv"
    data.write_text("\n".join(lines))
    teacher, model = newest(trained / "teacher"), trained / "student"
    command = [TRAINER, "--data", data, "--teacher", teacher, "--epochs", 1]
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--out", str(tmp_path / "out"), "--model", str(model)])
    example.main()
    wrong, count = errors(capsys.readouterr().out, "student")
    assert count == 10 and wrong <= 3
    assert not (tmp_path / "out" / "teacher").exists()
    assert (tmp_path / "out" / "student" / "model.safetensors").is_file()


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load(TRAINER)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model", "some"], "--model NAME needs --teacher NAME"),
        (["--data", "nowhere.tsv"], "nowhere.tsv: there is no such file"),
        (["--data", "{bad}"], "line 2: a label, a tab and a sentence are needed"),
        (["--data", "{three}", "--teacher", "{teacher}"], "has 2 classes, the data has 3: a, b, c"),
        (["--teacher", "{teacher}", "--model", "{model}"], "have other tokens"),
    ],
)
def test_the_trainer_says_what_is_wrong(example, trained, tmp_path, monkeypatch, capsys, arguments, words):
    (tmp_path / "bad.tsv").write_text("good\tthe film was good\nthe film was bad\n")
    (tmp_path / "three.tsv").write_text("a\tone\nb\ttwo\nc\tthree\n")
    shutil.copytree(trained / "student", tmp_path / "model", ignore=shutil.ignore_patterns("checkpoint-*"))
    example.word_tokenizer(["other words"]).save_pretrained(tmp_path / "model")
    places = {name: tmp_path / f"{name}.tsv" for name in ("bad", "three")}
    places |= {"teacher": newest(trained / "teacher"), "model": tmp_path / "model"}
    arguments = [argument.format(**places) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["distill_trainer.py", "--out", str(tmp_path / "out"), *arguments])
    with pytest.raises(SystemExit) as stopped:
        example.main()
    assert words in f"{stopped.value} {capsys.readouterr().err}"


@pytest.mark.slow
def test_accumulated_batches_give_the_step_of_one_batch(example, tmp_path):
    """Sentences of other lengths, a label for each token: a mean of the batches' means would be another loss."""
    from transformers import BertConfig, BertForTokenClassification, TrainingArguments

    shape = {"vocab_size": 30, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 3}
    shape |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "intermediate_size": 16}
    torch.manual_seed(0)
    teacher = BertForTokenClassification(BertConfig(hidden_size=16, **shape))
    start_from = BertForTokenClassification(BertConfig(hidden_size=8, **shape)).state_dict()
    tokens = torch.randint(1, 30, (32, 10))
    counted = torch.arange(10) < torch.randint(1, 11, (32, 1))
    labels = torch.where(counted, tokens % 3, -100)
    rows = [{"input_ids": t, "labels": y} for t, y in zip(tokens, labels, strict=True)]

    def weights(batch_size: int, accumulate: int) -> dict:
        student = BertForTokenClassification(BertConfig(hidden_size=8, **shape))
        student.load_state_dict(start_from)
        arguments = TrainingArguments(
            output_dir=tmp_path,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulate,
            num_train_epochs=2,
            learning_rate=0.1,
            optim="sgd",
            max_grad_norm=0.0,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = example.DistillationTrainer(
            student, arguments, train_dataset=rows, teacher=teacher, temperature=2.0, soft_weight=0.5
        )
        trainer.train()
        return {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}

    whole, parts = weights(16, 1), weights(4, 4)
    assert not torch.equal(whole["classifier.weight"], start_from["classifier.weight"])
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-6)
