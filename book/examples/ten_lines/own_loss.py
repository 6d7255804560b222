"""From a loss of your own to a distilled student, in ten lines."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from kdutils import MLP, Batch, TrainConfig, count_errors, distill, fit, load_dataset
from kdutils.losses import reverse_kd_loss


# What you bring: a loss in place of the cross-entropy, data and a teacher.
def smoothed(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy with labels that are 90 % sure."""
    return F.cross_entropy(logits, batch.labels, label_smoothing=0.1)


digits = load_dataset("digits")
teacher = MLP((256,))
fit(teacher, digits.train, None, TrainConfig(), loss=smoothed)

# Ten lines.
student = MLP((12,))
soft_loss = partial(reverse_kd_loss, temperature=2.0)  # another soft term, or your own
losses = {"loss": smoothed, "soft_loss": soft_loss}
distill(student, teacher, digits.train, None, TrainConfig(), **losses)
for name, model in {"teacher": teacher, "student": student}.items():
    print(f"{name}: {count_errors(model, digits.test)} errors of {len(digits.test)}")
