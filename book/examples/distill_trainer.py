"""Distil a sentence classifier inside Hugging Face's Trainer: one method is replaced.

    python distill_trainer.py --out result
    python distill_trainer.py --out result --data reviews.tsv \
        --teacher textattack/bert-base-uncased-SST-2 --model distilbert-base-uncased

Without names, teacher and student are two small networks with random weights, the
teacher is trained first, and nothing is downloaded; without data, the sentences are
made here. In a file of your own, each line is a label, a tab and a sentence. If the run
is stopped, the same command goes on from the last whole epoch.
"""

import argparse
import itertools
import random
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdutils import distillation_loss, freeze

try:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        BertConfig,
        BertForSequenceClassification,
        DataCollatorWithPadding,
        PreTrainedTokenizerBase,
        PreTrainedTokenizerFast,
        Trainer,
        TrainingArguments,
        set_seed,
    )
    from transformers.trainer_utils import get_last_checkpoint
except ImportError:
    sys.exit("This example needs transformers: pip install transformers accelerate")


class DistillationTrainer(Trainer):
    """A Trainer whose student learns from labels and from a teacher."""

    def __init__(
        self,
        *args,
        teacher: nn.Module,
        temperature: float,
        soft_weight: float,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.teacher = freeze(teacher).to(self.args.device)
        self.temperature, self.soft_weight = temperature, soft_weight
        # Then the Trainer counts the labels in all the batches that make up one step,
        # and leaves it to compute_loss to divide by that number.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, object]:
        """Hinton's loss; the mean over the labels of a step, however it is split up."""
        labels = inputs["labels"]
        inputs = {name: part for name, part in inputs.items() if name != "labels"}
        with torch.no_grad():
            answers = self.teacher(**inputs).logits
        outputs = model(**inputs)
        loss = distillation_loss(
            outputs.logits,
            answers,
            labels,
            temperature=self.temperature,
            soft_weight=self.soft_weight,
        ).total
        if num_items_in_batch is not None:
            # A mean of the batches' means would be wrong where some have fewer labels.
            loss = loss * (labels != -100).sum() / num_items_in_batch
            if self.args.average_tokens_across_devices:
                # The number is that of all processes, whose gradients are averaged.
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


# --- sentences ---


def made_up(count: int, seed: int) -> list[tuple[str, str]]:
    """Short reviews; "not" turns the meaning around."""
    draw = random.Random(seed)
    good = "good great lovely funny clever warm bright".split()
    bad = "bad dull poor weak slow cold silly".split()
    things = "film play book song story game meal".split()
    reviews = []
    for _ in range(count):
        positive, negated = draw.random() < 0.5, draw.random() < 0.5
        words = ["the", draw.choice(things), "was"]
        words += ["not"] * negated + ["very"] * (draw.random() < 0.5)
        words.append(draw.choice(good if positive != negated else bad))
        reviews.append(("positive" if positive else "negative", " ".join(words)))
    return reviews


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Labels and sentences from a file with a tab between them."""
    if not path.is_file():
        sys.exit(f"--data {path}: there is no such file")
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        label, tab, sentence = line.partition("\t")
        if not tab:
            sys.exit(f"{path}, line {number}: a label, a tab and a sentence are needed")
        pairs.append((label.strip(), sentence.strip()))
    return pairs


def word_tokenizer(sentences: list[str]) -> PreTrainedTokenizerBase:
    """One token for each word of these sentences."""
    words = sorted(set(itertools.chain.from_iterable(map(str.split, sentences))))
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=names,
    )


# --- models ---


def small(width: int, vocabulary: int, labels: int) -> nn.Module:
    """A BERT of one layer with random weights."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=labels,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,  # 0.02 suits wide layers: narrow ones start too quietly
    )
    return BertForSequenceClassification(config)


def errors(prediction: tuple[np.ndarray, np.ndarray]) -> dict[str, int]:
    """How many sentences are answered wrongly."""
    logits, labels = prediction
    return {"errors": int((logits.argmax(axis=-1) != labels).sum())}


def main() -> None:
    """Train a teacher if none is named, then the student, and count their errors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", required=True, help="folder for checkpoints and the student")
    add("--data", type=Path, help="lines of a label, a tab and a sentence")
    add("--teacher", metavar="NAME", help="a trained classifier: name or folder")
    add("--model", metavar="NAME", help="what the student starts as: name or folder")
    add("--epochs", type=float, default=8)
    add("--batch-size", type=int, default=32, help="of one process")
    add("--accumulate", type=int, default=1, help="batches that make up one step")
    add("--lr", type=float, default=3e-3, help="5e-5 suits a pretrained student")
    add("--temperature", type=float, default=2.0)
    add("--soft-weight", type=float, default=0.9, help="of the teacher; 0 to 1")
    add("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.model and not options.teacher:
        parser.error("--model NAME needs --teacher NAME, a classifier to learn from")

    pairs = read_lines(options.data) if options.data else made_up(1200, options.seed)
    random.Random(options.seed).shuffle(pairs)
    names = sorted({label for label, _ in pairs})
    sentences = [sentence for _, sentence in pairs]
    if options.teacher:
        tokenizer = AutoTokenizer.from_pretrained(options.model or options.teacher)
    else:
        tokenizer = word_tokenizer(sentences)
    rows = [
        {**tokenizer(sentence, truncation=True), "labels": names.index(label)}
        for label, sentence in pairs
    ]
    train, test = rows[: len(rows) * 5 // 6], rows[len(rows) * 5 // 6 :]

    def arguments(part: str) -> TrainingArguments:
        return TrainingArguments(
            output_dir=f"{options.out}/{part}",
            num_train_epochs=options.epochs,
            per_device_train_batch_size=options.batch_size,
            per_device_eval_batch_size=256,
            gradient_accumulation_steps=options.accumulate,
            learning_rate=options.lr,
            warmup_steps=10,
            seed=options.seed,
            save_strategy="epoch",
            save_total_limit=1,
            dataloader_pin_memory=torch.cuda.is_available(),
            report_to="none",
        )

    shared = {
        "train_dataset": train,
        "eval_dataset": test,
        "data_collator": DataCollatorWithPadding(tokenizer),
        "processing_class": tokenizer,
        "compute_metrics": errors,
    }
    set_seed(options.seed)
    if options.teacher:
        teacher = AutoModelForSequenceClassification.from_pretrained(options.teacher)
        check_teacher(teacher, options, names)
    else:
        teacher = small(64, len(tokenizer), len(names))
        run(Trainer(teacher, arguments("teacher"), **shared), len(test), "teacher")
    if options.model:
        student = AutoModelForSequenceClassification.from_pretrained(
            options.model, num_labels=len(names)
        )
    else:
        student = small(16, len(tokenizer), len(names))
    student.config.id2label = dict(enumerate(names))
    trainer = DistillationTrainer(
        student,
        arguments("student"),
        teacher=teacher,
        temperature=options.temperature,
        soft_weight=options.soft_weight,
        **shared,
    )
    run(trainer, len(test), "student")
    trainer.save_model(f"{options.out}/student")


def check_teacher(
    teacher: nn.Module, options: argparse.Namespace, names: list[str]
) -> None:
    """The teacher's classes and tokens have to be the student's."""
    if teacher.config.num_labels != len(names):
        sys.exit(
            f"{options.teacher} has {teacher.config.num_labels} classes, the data has "
            f"{len(names)}: {', '.join(names[:10])}"
        )
    if options.model:
        theirs, ours = map(
            AutoTokenizer.from_pretrained, (options.teacher, options.model)
        )
        if theirs.get_vocab() != ours.get_vocab():
            sys.exit(
                f"{options.teacher} and {options.model} have other tokens: choose two "
                f"that share a vocabulary"
            )


def run(trainer: Trainer, count: int, name: str) -> None:
    """Train, from the last checkpoint if there is one, and say what was reached."""
    if trainer.args.n_gpu > 1:
        sys.exit("for several GPUs, start it with: torchrun --nproc_per_node …")
    folder = Path(trainer.args.output_dir)
    last = get_last_checkpoint(folder) if folder.is_dir() else None
    if last and trainer.is_world_process_zero():
        print(f"{name}: goes on from {last}")
    trainer.train(resume_from_checkpoint=last)
    wrong = trainer.evaluate()["eval_errors"]
    if trainer.is_world_process_zero():
        print(f"{name}: {wrong} errors of {count} test sentences")


if __name__ == "__main__":
    main()
