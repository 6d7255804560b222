"""The network families: their shapes, their parameters counted by hand, and the config that rebuilds them."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdutils import CNN, MLP, ConvNet, Ensemble, Split, TrainConfig, count_parameters, fit

IMAGES = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
COLOUR = torch.rand(3, 3, 20, 33, generator=torch.Generator().manual_seed(0))
NETWORKS = [
    lambda: MLP((30,)),
    lambda: MLP(()),
    lambda: MLP((20, 10), dropout=0.5, input_dropout=0.2, num_classes=4),
    lambda: MLP((20, 10), max_norm=2.0),
    lambda: CNN((4,), hidden=6),
    lambda: CNN((2, 3, 4, 5), hidden=6, dropout=0.5, num_classes=4),
    lambda: ConvNet(),
    lambda: ConvNet(((2,), (3, 4), (5, 6, 7)), num_classes=4),
]
COLOUR_NETWORKS = [
    lambda: MLP((5,), in_features=3 * 20 * 33, num_classes=4),
    lambda: CNN((2, 3, 4), in_channels=3, image_size=(20, 33)),
    lambda: ConvNet(in_channels=3),
]


@pytest.mark.parametrize("build", NETWORKS)
def test_images_in_logits_out(build):
    model = build()
    assert model(IMAGES).shape == (3, model.config["num_classes"])


@pytest.mark.parametrize("build", COLOUR_NETWORKS)
def test_colour_images_of_another_size_in_logits_out(build):
    model = build()
    logits = model(COLOUR)
    assert logits.shape == (3, model.config["num_classes"])
    if not isinstance(model, ConvNet):  # whose batch norm lets no channel alone
        other = COLOUR.clone()
        other[:, 2, 10:, 20:] = 0  # the last channel and the far corner are seen
        assert not torch.equal(model(other), logits)


def test_a_square_size_may_be_given_as_one_number():
    torch.manual_seed(0)
    one = CNN((2, 3), in_channels=3, image_size=32)
    torch.manual_seed(0)
    pair = CNN((2, 3), in_channels=3, image_size=(32, 32))
    assert one.config == pair.config and all(map(torch.equal, one.parameters(), pair.parameters()))
    assert one(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("build", [lambda: CNN(hidden=4), lambda: ConvNet(), lambda: MLP((4,))])
def test_a_sidecar_from_before_there_was_colour_builds_the_same_network(build):
    model = build()
    old = {key: value for key, value in model.config.items() if key not in ("in_channels", "image_size")}
    assert type(model)(**old).config == model.config


def test_the_weights_of_a_seed_are_those_that_they_have_always_been():
    for build, expected in ((CNN, 1523.0973282), (ConvNet, 156.9956587), (MLP, 22637.4310113)):
        torch.manual_seed(3)
        weights = [parameter.detach() for parameter in build().parameters() if parameter.dim() > 1]
        assert sum(w.abs().double().sum().item() for w in weights) == pytest.approx(expected, rel=1e-8), build


@pytest.mark.parametrize(
    "build, images, message",
    [
        (CNN, COLOUR, r"this CNN takes images \(N, 1, 28, 28\): .* Got \(3, 3, 20, 33\)"),
        (CNN, IMAGES[0], r"this CNN takes images \(N, 1, 28, 28\): .* Got \(1, 28, 28\)"),
        (lambda: CNN(in_channels=3, image_size=(20, 33)), IMAGES, r"takes images \(N, 3, 20, 33\)"),
        (ConvNet, COLOUR, r"this ConvNet takes images \(N, 1, H, W\): for others, ConvNet\(in_channels=…\)"),
        (MLP, COLOUR, r"this MLP takes inputs of 784 numbers: for others, MLP\(in_features=…\). Got \(3, 3, 20, 33\)"),
    ],
)
def test_images_that_do_not_fit_are_named_with_what_would(build, images, message):
    with pytest.raises(ValueError, match=message):
        build()(images)


def test_other_errors_stay_pytorchs_own():
    for build in (CNN, ConvNet, MLP):
        with pytest.raises(RuntimeError, match="dtype|type"):
            build()(IMAGES.double())


@pytest.mark.parametrize("build", NETWORKS)
def test_a_network_can_be_traced_and_exported(build):
    model = build().eval()
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(IMAGES), model(IMAGES))
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(model, (IMAGES,), dynamic_shapes=(batch,)).module()
    torch.testing.assert_close(exported(IMAGES[:2]), model(IMAGES[:2]))


@pytest.mark.parametrize("build", NETWORKS + COLOUR_NETWORKS)
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


def test_the_default_convnet_has_the_parameters_counted_by_hand():
    convolutions = 9 * (1 * 6 + 6 * 10 + 10 * 10 + 10 * 10)
    batch_norm = 2 * (6 + 10 + 10 + 10)
    assert count_parameters(ConvNet()) == convolutions + batch_norm + (10 * 10 + 10)


def test_a_convnet_computes_what_its_docstring_says():
    model = ConvNet(((2,), (3, 4), (5, 6, 7)))
    model(IMAGES)  # batch norm notes other means and variances than those it starts with
    model.eval()
    convolutions = [layer for layer in model if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in model if isinstance(layer, nn.BatchNorm2d)]
    maps, sizes = IMAGES, []
    for number, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        if number in (1, 3):
            maps = F.avg_pool2d(maps, 2)
        maps = F.conv2d(maps, convolution.weight, padding=1 if number < 3 else 0)
        maps = F.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps).relu()
        sizes.append(tuple(maps.shape[1:]))
    assert sizes == [(2, 28, 28), (3, 14, 14), (4, 14, 14), (5, 5, 5), (6, 3, 3), (7, 1, 1)]
    torch.testing.assert_close(model(IMAGES), model[-1](maps.mean(dim=(2, 3))))


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
        (lambda: CNN((1, 2, 3), image_size=(4, 64)), r"name 1 to 2 convolutions for a 4×64 image, got \(1, 2, 3\)"),
        (lambda: CNN(image_size=0), "image_size must be .* got 0"),
        (lambda: CNN(in_channels=0), "in_channels must be .* got 0"),
        (lambda: ConvNet(in_channels="3"), "in_channels must be .* got '3'"),
        (lambda: ConvNet(((1,), (2,))), r"stages must name .* of 3 stages, .* got \(\(1,\), \(2,\)\)"),
        (lambda: ConvNet(((1,), (), (2,))), "stages must name .* at least one in each"),
        (lambda: ConvNet(((1,), (2,), (1, 2, 3, 4))), "stages must name .* at most 3 in the last"),
        (lambda: ConvNet(((1,), (2,), (3, 0))), "stages must be .* got 0"),
        (lambda: ConvNet(num_classes=0), "num_classes must be .* got 0"),
    ],
)
def test_a_bad_size_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def hidden_norms(model: MLP) -> torch.Tensor:
    return torch.cat([layer.weight.norm(dim=1) for layer in model if hasattr(layer, "max_norm")])


def test_max_norm_keeps_the_incoming_weights_of_hidden_units_short_while_training():
    labels = torch.randint(0, 10, (200,), generator=torch.Generator().manual_seed(0))
    train = Split(torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(1)), labels)
    lengths = {}
    for limit in (None, 0.5):
        torch.manual_seed(0)
        model = MLP((30, 20), max_norm=limit)
        fit(model, train, None, TrainConfig(epochs=3, lr=0.5, batch_size=20))
        lengths[limit] = max(model[1].weight.norm(dim=1).max().item(), model[3].weight.norm(dim=1).max().item())
    assert lengths[None] > 0.6
    assert lengths[0.5] < 0.51  # the last step, at almost no learning rate, is not followed by a cut


def test_max_norm_cuts_before_the_forward_pass_and_only_what_is_too_long():
    model = MLP((3,), max_norm=2.0)
    with torch.no_grad():
        model[1].weight.copy_(torch.ones(3, 784) * torch.tensor([[1.0], [0.05], [0.01]]))
    expected = model[1].weight.detach().clone()
    expected[0] *= 2.0 / 28  # √784 = 28, so the three are 28, 1.4 and 0.28 long
    assert torch.equal(model.eval()(IMAGES), model(IMAGES)) and hidden_norms(model).max() == 28
    model.train()(IMAGES).sum().backward()
    assert torch.allclose(model[1].weight, expected)
    assert not hasattr(model[3], "max_norm")  # the logits are free
    assert model[1].weight.grad is not None


@pytest.mark.parametrize("bad", [0, -1.0, float("nan")])
def test_max_norm_refuses_what_is_not_a_length(bad):
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        MLP((3,), max_norm=bad)


def test_an_ensemble_gives_the_mean_of_its_members_logits():
    members = [MLP((5,)), CNN((2,), hidden=3)]
    logits = Ensemble(members)(IMAGES)
    assert torch.allclose(logits, (members[0](IMAGES) + members[1](IMAGES)) / 2)
    assert count_parameters(Ensemble(members)) == sum(map(count_parameters, members))
    with pytest.raises(ValueError, match="at least one network"):
        Ensemble([])


def test_an_ensemble_passes_on_keywords_and_takes_logits_by_their_name():
    class Reader(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, input_ids, attention_mask):
            return SimpleNamespace(hidden=None, logits=self.factor * input_ids * attention_mask)

    tokens = {"input_ids": torch.tensor([[1.0, 2.0]]), "attention_mask": torch.tensor([[1.0, 0.0]])}
    assert Ensemble([Reader(1), Reader(3)])(**tokens).tolist() == [[2.0, 0.0]]
    assert Ensemble([Reader(1), Reader(3)])(*tokens.values()).tolist() == [[2.0, 0.0]]
