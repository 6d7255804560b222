"""Models of the transformers library in fit and distill: small ones with random weights, nothing downloaded."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from kdutils import Split, TrainConfig, count_errors, distill, distillation_loss, fit, hard_loss, next_token, warmup
from kdutils.data import as_batch

pytestmark = pytest.mark.slow
SHAPE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}
TOKENS = torch.randint(1, 20, (24, 8), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.arange(24)[:, None] % 6 + 3
MASK = torch.arange(8) < LENGTHS
TOKENS = TOKENS * MASK  # 0 is padding
LABELS = TOKENS.masked_fill(~MASK, -100)
ROWS = [
    {"input_ids": tokens, "attention_mask": mask, "labels": labels}
    for tokens, mask, labels in zip(TOKENS, MASK.long(), LABELS, strict=True)
]
CONFIG = TrainConfig(epochs=2, batch_size=8, lr=0.01, clip=1.0, device="cpu")
ADAMW = {"optimizer": torch.optim.AdamW, "schedule": warmup(0.2)}


def llama(seed: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, max_position_embeddings=16))


def gpt2(seed: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=16, vocab_size=20, n_inner=16))


def bert(seed: int) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    return BertForSequenceClassification(BertConfig(**SHAPE, num_labels=3))


def loader(rows: list) -> DataLoader:
    return DataLoader(rows, batch_size=8)


@pytest.mark.parametrize("build", [llama, gpt2])
def test_next_token_gives_the_models_own_loss(build):
    model = build(0).eval()
    batch = next(iter(loader(ROWS)))
    own = model(**batch).loss
    logits, labels = next_token(model, batch)
    assert hard_loss(logits, as_batch((logits, labels))).item() == pytest.approx(own.item(), rel=1e-6)
    hard = distillation_loss(logits, logits.detach(), labels).hard
    assert hard.item() == pytest.approx(own.item(), rel=1e-6)


@pytest.mark.parametrize("form", ["loader", "split"])
def test_a_language_model_is_distilled_with_next_token(form):
    data = loader(ROWS)
    if form == "split":
        data = Split({"input_ids": TOKENS, "attention_mask": MASK.long()}, LABELS)
    teacher, student = llama(1), llama(2)
    before = copy.deepcopy(student)
    history = distill(student, teacher, data, data, CONFIG, adapter=next_token, **ADAMW)
    student.eval(), before.eval()
    counted = int((LABELS[:, 1:] != -100).sum())
    assert history.val_errors[-1] == count_errors(student, data, adapter=next_token) <= counted
    # The validation loss is the model's own, over all positions that count.
    own = student(input_ids=TOKENS, attention_mask=MASK.long(), labels=LABELS).loss.item()
    assert history.val_loss[-1] == pytest.approx(own, rel=1e-5)
    assert own < before(input_ids=TOKENS, attention_mask=MASK.long(), labels=LABELS).loss.item()


@pytest.mark.parametrize("form", ["loader", "split"])
def test_a_language_model_without_next_token_is_refused(form):
    """Its labels are its inputs: unshifted, it would learn to repeat what it reads."""
    data = loader(ROWS)
    if form == "split":
        data = Split({"input_ids": TOKENS, "attention_mask": MASK.long()}, LABELS)
    for train in (lambda: distill(llama(2), llama(1), data, None, CONFIG), lambda: fit(llama(2), data, None, CONFIG)):
        with pytest.raises(ValueError, match="adapter=kdutils.next_token"):
            train()


def test_labels_for_each_token_that_are_no_tokens_need_no_adapter():
    """As in tagging; some labels are equal to the tokens by chance."""
    from transformers import BertConfig, BertForTokenClassification

    rows = [row | {"labels": torch.where(row["labels"] > 0, row["input_ids"] % 3, -100)} for row in ROWS]
    torch.manual_seed(0)
    models = [BertForTokenClassification(BertConfig(**SHAPE, num_labels=3)) for _ in range(2)]
    history = distill(*models, loader(rows), loader(rows), CONFIG, **ADAMW)
    assert history.val_errors[-1] < int(MASK.sum()) * 0.7


@pytest.mark.parametrize("half", ["teacher", "both"])
def test_weights_in_bfloat16_can_teach_and_be_taught(half, tmp_path):
    rows = [row | {"labels": row["input_ids"][0] % 3} for row in ROWS]
    teacher, student = bert(1).bfloat16(), bert(2)
    if half == "both":
        student.bfloat16()
    before = copy.deepcopy(teacher)
    history = distill(
        student, teacher, loader(rows), loader(rows), CONFIG, checkpoint=tmp_path / "run.pt", run_name="bert", **ADAMW
    )
    assert history.loss[-1] < history.loss[0]
    assert all(map(torch.equal, before.state_dict().values(), teacher.state_dict().values()))
    assert next(student.parameters()).dtype == (torch.bfloat16 if half == "both" else torch.float32)
