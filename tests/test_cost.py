"""cost.py: parameters and products against formulas counted by hand, seconds against a clock of our own."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from kdutils import CNN, MLP, ConvNet, count_multiply_adds, count_parameters, latency


def digits(n=20, seed=0):
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def quantised(model: nn.Module, *kinds: type) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch announces that this will move to another package
        return torch.ao.quantization.quantize_dynamic(model, set(kinds), dtype=torch.qint8)


# --- parameters --------------------------------------------------------------------------------------------------


def test_frozen_and_shared_parameters_count_once_and_buffers_do_not():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 5, bias=False)).requires_grad_(False)
    model.append(nn.Linear(5, 5, bias=False))
    model[3].weight = model[2].weight
    assert count_parameters(model) == (3 * 5 + 5) + (5 + 5) + 25


def test_a_quantised_network_has_as_many_parameters_as_before():
    model = CNN((16, 32), hidden=64)
    whole = count_parameters(model)
    small = quantised(model, nn.Linear)
    assert sum(parameter.numel() for parameter in small.parameters()) < whole / 20  # the rest is packed away
    assert count_parameters(small) == whole
    assert count_parameters(quantised(nn.Sequential(nn.Linear(4, 3, bias=False)), nn.Linear)) == 12


def test_statically_quantised_convolutions_and_embeddings_count_too():
    model = nn.Sequential(torch.ao.quantization.QuantStub(), nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    model.qconfig = torch.ao.quantization.default_qconfig
    words = nn.EmbeddingBag(10, 4)
    words.qconfig = torch.ao.quantization.float_qparams_weight_only_qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = torch.ao.quantization.prepare(model)
        prepared(torch.rand(2, 3, 8, 8))
        assert count_parameters(torch.ao.quantization.convert(prepared)) == 4 * 3 * 9 + 4
        assert count_parameters(torch.ao.nn.quantized.EmbeddingBag.from_float(words)) == 40


def test_quantised_weights_that_cannot_be_seen_are_refused_by_name():
    recurrent = quantised(nn.Sequential(nn.LSTM(4, 5)), nn.LSTM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch would rather have something else exported
        whole = torch.jit.script(nn.Sequential(nn.Linear(4, 5)))
        scripted = torch.jit.script(quantised(nn.Sequential(nn.Linear(4, 5)), nn.Linear))
    for model, name in ((recurrent, "0._all_weight_values.0"), (scripted, "0._packed_params")):
        with pytest.raises(ValueError, match=f"{name} .* cannot be looked into: ask the network as it was before"):
            count_parameters(model)
    assert count_parameters(whole) == 25


# --- multiply–adds -----------------------------------------------------------------------------------------------


def test_multiply_adds_of_an_mlp_are_the_products_of_its_widths():
    assert count_multiply_adds(MLP((800, 800))) == 784 * 800 + 800 * 800 + 800 * 10
    assert count_multiply_adds(MLP(())) == 784 * 10


def test_multiply_adds_of_a_cnn_are_counted_by_hand():
    first = 28 * 28 * 16 * (1 * 3 * 3)  # places × output channels × (input channels × kernel)
    second = 14 * 14 * 32 * (16 * 3 * 3)
    assert count_multiply_adds(CNN((16, 32), hidden=64)) == first + second + 32 * 7 * 7 * 64 + 64 * 10


def test_multiply_adds_take_another_image_shape_or_an_example():
    assert count_multiply_adds(MLP((5,), in_features=3 * 4 * 4), image_shape=(3, 4, 4)) == 48 * 5 + 5 * 10
    colour = CNN((2,), hidden=3, in_channels=3, image_size=(8, 6))
    expected = 8 * 6 * 2 * 27 + 2 * 4 * 3 * 3 + 3 * 10
    assert count_multiply_adds(colour, (3, 8, 6)) == expected
    assert count_multiply_adds(colour, example=torch.rand(1, 3, 8, 6)) == expected
    assert count_multiply_adds(colour, example=torch.rand(5, 3, 8, 6)) == 5 * expected  # as a whole


class Reader(nn.Module):
    """Token numbers and a mask in, an object with logits out."""

    def __init__(self, layer: nn.Module, width: int = 8):
        super().__init__()
        self.words, self.layer, self.head = nn.Embedding(50, width), layer, nn.Linear(width, 3)

    def forward(self, input_ids, attention_mask):
        answer = self.layer(self.words(input_ids))
        answer = answer[0] if isinstance(answer, tuple) else answer
        return SimpleNamespace(logits=self.head((answer * attention_mask[:, :, None]).mean(dim=1)))


LENGTH = 10
TOKENS = {"input_ids": torch.arange(LENGTH)[None], "attention_mask": torch.ones(1, LENGTH, dtype=torch.int64)}
# What PyTorch's counter, left alone, counts as 0 or in part: layers with kernels of their own.
LAYERS = {
    "feed-forward": (lambda: nn.Linear(8, 8), LENGTH * 64),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        LENGTH * (4 * 64 + 2 * 8 * 16) + 2 * LENGTH * LENGTH * 8,
    ),
    "LSTM": (lambda: nn.LSTM(8, 8, batch_first=True), LENGTH * 4 * 2 * 64),
    "GRU": (lambda: nn.GRU(8, 8, batch_first=True), LENGTH * 3 * 2 * 64),
}


@pytest.mark.parametrize("build, products", LAYERS.values(), ids=LAYERS.keys())
def test_multiply_adds_of_networks_of_tokens_are_counted_by_hand(build, products):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count_multiply_adds(Reader(build()), example=TOKENS) == products + 8 * 3
        pair = tuple(TOKENS.values())
        assert count_multiply_adds(Reader(build()), example=pair) == products + 8 * 3


def test_counting_leaves_the_settings_of_pytorch_alone():
    def settings():
        fused = torch.backends.cuda.flash_sdp_enabled(), torch.backends.mha.get_fastpath_enabled()
        return fused, torch.backends.cudnn.enabled, torch._C._get_mkldnn_enabled()

    torch.backends.mha.set_fastpath_enabled(True)
    before = settings()
    count_multiply_adds(Reader(nn.Linear(8, 8)), example=TOKENS)
    with pytest.raises(TypeError):
        count_multiply_adds(Reader(nn.Linear(8, 8)), example=TOKENS["input_ids"])
    assert settings() == before


def test_products_of_bytes_count_as_those_of_floats_do():
    class Bytes(nn.Module):
        def forward(self, images):
            return torch._int_mm(images.flatten(1).to(torch.int8).expand(32, -1), torch.ones(784, 16, dtype=torch.int8))

    assert count_multiply_adds(Bytes()) == 32 * 784 * 16


@pytest.mark.parametrize("model", [Reader(nn.Linear(8, 8)), ConvNet(in_channels=3), nn.Embedding(5, 5)])
def test_a_model_that_takes_no_digit_asks_for_an_example(model):
    with pytest.raises(ValueError, match=r"does not take an image of \(1, 28, 28\) .*pass image_shape=, or example="):
        count_multiply_adds(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_in_another_precision_costs_as_many_products(dtype):
    model = CNN((2,), hidden=3).to(dtype)
    assert count_multiply_adds(model) == count_multiply_adds(CNN((2,), hidden=3))
    assert count_multiply_adds(model, example=digits(1)) == count_multiply_adds(model)
    assert latency(model, digits(1), repeats=1, warmup=0).median > 0


def test_products_that_are_not_seen_are_refused():
    with pytest.raises(ValueError, match="quantised layers are not seen"):
        count_multiply_adds(quantised(MLP((4,)), nn.Linear))


def test_counting_leaves_the_models_modes_alone(mixed_model):
    before = [module.training for module in mixed_model.modules()]
    count_multiply_adds(mixed_model)
    assert [module.training for module in mixed_model.modules()] == before


# --- seconds -----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when a test moves it."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("kdutils.cost.time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


class Slow(nn.Module):
    """Its calls take the given seconds, one after the other."""

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds, self.calls = clock, seconds, 0

    def forward(self, images):
        assert not self.training and not torch.is_grad_enabled()
        self.clock.now += self.seconds[self.calls]
        self.calls += 1
        return images


def test_latency_is_the_median_call_and_leaves_the_warm_up_out(clock):
    model = Slow(clock, [100.0] * 3 + [float(second) for second in range(11)])
    assert latency(model, digits(1), repeats=11, warmup=3) == pytest.approx((5.0, 1.0, 9.0))
    assert model.calls == 14
    assert model.training


def test_latency_on_the_real_clock_is_positive_and_ordered():
    median, low, high = latency(MLP((4,)), digits(1), repeats=5, warmup=1)
    assert 0 < low <= median <= high


@pytest.mark.parametrize("inputs", [TOKENS, tuple(TOKENS.values())], ids=["dictionary", "tuple"])
def test_latency_gives_a_network_its_inputs_as_it_takes_them(inputs):
    assert latency(Reader(nn.Linear(8, 8)).train(), inputs, repeats=2, warmup=0).median > 0


@pytest.mark.parametrize("inputs", [{"x": np.zeros(3)}, np.zeros((2, 3)), "a text", (1, 2)], ids=str)
def test_latency_of_a_function_calls_it_with_the_inputs_as_they_are(clock, inputs):
    def answer(given):
        assert given is inputs and not torch.is_grad_enabled()
        clock.now += 2.0

    assert latency(answer, inputs, repeats=3, warmup=1) == pytest.approx((2, 2, 2))


def test_latency_waits_for_a_gpu_that_a_function_may_use(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(str(device)))
    latency(lambda _: events.append("call"), None, repeats=1, warmup=0)
    assert events == ["cuda", "call", "cuda"]
    events.clear()
    latency(MLP((4,)), digits(1), repeats=1, warmup=0)  # a network on the CPU needs no waiting
    assert events == []


def test_latency_says_how_to_wrap_what_cannot_be_called():
    class InferenceSession:
        def run(self, outputs, feed): ...

    with pytest.raises(TypeError, match="got InferenceSession: wrap it in one, such as lambda feed: session.run"):
        latency(InferenceSession(), {"images": np.zeros(3)})


@pytest.mark.parametrize(
    "repeats, warmup, message", [(0, 5, "repeats .* got 0 and 5"), (5, -1, "warmup .* got 5 and -1")]
)
def test_latency_names_a_bad_count(repeats, warmup, message):
    with pytest.raises(ValueError, match=message):
        latency(MLP((4,)), digits(1), repeats=repeats, warmup=warmup)
