"""sharpness.py: distill says when a teacher's soft targets are labels in all but name."""

import warnings

import pytest
import torch

from kdutils import MLP, TrainConfig, distill, load_dataset, predict_logits, temperature_for
from kdutils.sharpness import spread, top_probability

TRAIN = load_dataset("digits").train[:128]
SHARP = 20 * torch.randn(500, 10, generator=torch.Generator().manual_seed(0))


def test_spread_and_top_are_what_they_say():
    logits = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    assert spread(logits) == pytest.approx(2**0.5 / 2)
    assert top_probability(logits, 2.0) == pytest.approx((torch.sigmoid(torch.tensor(1.0)).item() + 0.5) / 2)
    assert spread(logits.reshape(1, 2, 2)) == spread(logits.bfloat16()) == pytest.approx(spread(logits))


def test_the_temperature_for_a_top_probability_gives_it_and_follows_the_scale():
    found = temperature_for(SHARP)
    assert top_probability(SHARP, found) == pytest.approx(0.8, abs=1e-3)
    assert temperature_for(3 * SHARP) == pytest.approx(3 * found, rel=1e-3)
    assert temperature_for(SHARP, top=0.5) > found
    for bad in (0.1, 1.0):
        with pytest.raises(ValueError, match="top must lie between 1/10 and 1"):
            temperature_for(SHARP, top=bad)
    with pytest.raises(ValueError, match="logits must be finite"):
        temperature_for(SHARP / 0)


class Scaled(torch.nn.Module):
    """A teacher whose logits are as far apart as one likes."""

    def __init__(self, scale):
        super().__init__()
        torch.manual_seed(1)
        self.inner, self.scale = MLP((32,)), scale

    def forward(self, images):
        return self.scale * self.inner(images)


def run(scale, online=False, **options):
    train = [(TRAIN.images, TRAIN.labels)] if online else TRAIN
    settings = TrainConfig(epochs=1, batch_size=64, lr=1e-3, device="cpu")
    distill(MLP((8,)), Scaled(scale), train, None, settings, **options)


@pytest.mark.parametrize("online", [False, True])
def test_a_sharp_teacher_is_warned_of_with_its_numbers_and_a_soft_one_is_not(online):
    logits = predict_logits(Scaled(4000.0), TRAIN.images)
    factor = spread(logits) / 4
    expected = f"standard deviation of {spread(logits):.1f} .* at T = 4 .* {top_probability(logits, 4.0):.3f} .*"
    expected += f"Divide the teacher's logits by {factor:.1f}: .* {top_probability(logits / factor, 4.0):.2f}"
    with pytest.warns(UserWarning, match=expected):
        run(4000.0, online)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(1.0, online)
        run(4000.0 / factor, online)  # what the warning says
        run(4000.0, online, temperature=2.0)  # where T² does little harm
