"""The two network families: their shapes, their parameters counted by hand, and the config that rebuilds them."""

import pytest
import torch
from torch import nn

from kdutils import CNN, MLP, count_parameters

IMAGES = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
NETWORKS = [
    lambda: MLP((30,)),
    lambda: MLP(()),
    lambda: MLP((20, 10), dropout=0.5, input_dropout=0.2, num_classes=4),
    lambda: CNN((4,), hidden=6),
    lambda: CNN((2, 3, 4, 5), hidden=6, dropout=0.5, num_classes=4),
]


@pytest.mark.parametrize("build", NETWORKS)
def test_images_in_logits_out(build):
    model = build()
    assert model(IMAGES).shape == (3, model.config["num_classes"])


@pytest.mark.parametrize("build", NETWORKS)
def test_config_builds_the_same_network_again(build):
    model = build()
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in model.config.items()}
    again = type(model)(**config)
    assert repr(again) == repr(model)
    assert again.config == model.config


def test_the_default_mlp_is_hintons_student():
    assert count_parameters(MLP()) == (784 * 800 + 800) + (800 * 800 + 800) + (800 * 10 + 10)


def test_the_default_cnn_has_the_parameters_counted_by_hand():
    convolutions = (1 * 9 * 16 + 16) + (16 * 9 * 32 + 32)
    assert count_parameters(CNN()) == convolutions + (32 * 7 * 7 * 64 + 64) + (64 * 10 + 10)


def test_frozen_parameters_count_and_buffers_do_not():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)).requires_grad_(False)
    assert count_parameters(model) == (3 * 5 + 5) + (5 + 5)


@pytest.mark.parametrize("build, places", [(lambda p: MLP((4, 4), dropout=p), 2), (lambda p: CNN(dropout=p), 1)])
def test_dropout_follows_each_hidden_layer(build, places):
    assert [module.p for module in build(0.3).modules() if isinstance(module, nn.Dropout)] == [0.3] * places
    assert not [module for module in build(0.0).modules() if isinstance(module, nn.Dropout)]


def test_input_dropout_drops_pixels_and_only_while_training():
    model = MLP((), input_dropout=0.5)
    linear = model[-1](IMAGES.flatten(1))
    assert not torch.allclose(model(IMAGES), linear)
    torch.testing.assert_close(model.eval()(IMAGES), linear)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: MLP((0,)), "hidden must be whole numbers of at least 1, got 0"),
        (lambda: MLP((10, 2.5)), "hidden must be whole numbers of at least 1, got 2.5"),
        (lambda: MLP(num_classes=-1), "num_classes must be .* got -1"),
        (lambda: MLP(in_features=0), "in_features must be .* got 0"),
        (lambda: MLP(dropout=1.5), "dropout .* got 1.5"),
        (lambda: CNN((8, True)), "channels must be .* got True"),
        (lambda: CNN(hidden=0), "hidden must be .* got 0"),
        (lambda: CNN(()), r"channels must name 1 to 4 convolutions .* got \(\)"),
        (lambda: CNN((1, 2, 3, 4, 5)), r"channels must name 1 to 4 convolutions .* got \(1, 2, 3, 4, 5\)"),
    ],
)
def test_a_bad_size_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
