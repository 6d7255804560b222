"""From a DataLoader and a trained network to a distilled student, in ten lines."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from kdutils import TrainConfig, count_errors, distill, fit

# What you bring, made up here so that the page runs anywhere: data and a teacher.
digits = load_digits()
images = torch.tensor(digits.data / 16, dtype=torch.float32)
data = TensorDataset(images, torch.tensor(digits.target))
train, test = random_split(data, [1297, 500], torch.Generator().manual_seed(0))
train_loader = DataLoader(train, batch_size=64, shuffle=True)
test_loader = DataLoader(test, batch_size=500)
teacher = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
fit(teacher, train_loader, None, TrainConfig(epochs=20))

# Ten lines.
student = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
distill(student, teacher, train_loader, None, TrainConfig(epochs=20))
for name, model in {"teacher": teacher, "student": student}.items():
    print(f"{name}: {count_errors(model, test_loader)} errors of {len(test)}")
