"""From a Hugging Face classifier to a distilled student, in ten lines."""

import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

from kdutils import TrainConfig, count_errors, distill, fit, warmup

# What you bring, made up here so that nothing is downloaded: rows as a tokenizer gives
# them (do more small numbers than large ones stand before the padding?) and a teacher.
lengths = torch.randint(6, 13, (1000, 1))
tokens = torch.randint(1, 50, (1000, 12)) * (torch.arange(12) < lengths)
mask = (tokens > 0).long()
labels = ((mask * (tokens < 25)).sum(dim=1) > (tokens >= 25).sum(dim=1)).long()
names = ("input_ids", "attention_mask", "labels")
rows = [
    dict(zip(names, row, strict=True)) for row in zip(tokens, mask, labels, strict=True)
]
train_loader = DataLoader(rows[:800], batch_size=32, shuffle=True)
test_loader = DataLoader(rows[800:], batch_size=100)
shape = {"vocab_size": 50, "num_hidden_layers": 1, "num_attention_heads": 2}
shape["intermediate_size"] = 64
teacher = BertForSequenceClassification(BertConfig(hidden_size=64, **shape))
adamw = {"optimizer": torch.optim.AdamW, "schedule": warmup(0.1)}
fit(teacher, train_loader, None, TrainConfig(epochs=10, lr=0.003, clip=1.0), **adamw)

# Ten lines.
student = BertForSequenceClassification(BertConfig(hidden_size=16, **shape))
config = TrainConfig(epochs=10, lr=0.003, clip=1.0)
adamw = {"optimizer": torch.optim.AdamW, "schedule": warmup(0.1)}
distill(student, teacher, train_loader, None, config, **adamw)
for name, model in {"teacher": teacher, "student": student}.items():
    print(f"{name}: {count_errors(model, test_loader)} errors of {len(rows[800:])}")
