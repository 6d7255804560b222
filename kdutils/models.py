"""Network families for small pictures; what they expect unless told otherwise is a digit of 28×28."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn


class MLP(nn.Sequential):
    """A multilayer perceptron with ReLU: inputs ``(N, …)`` in, flattened first, logits ``(N, num_classes)`` out.

    Args:
        hidden: units of each hidden layer; ``()`` gives a linear classifier.
        dropout: probability of dropping a hidden unit.
        input_dropout: probability of dropping a pixel.
        max_norm: longest vector of incoming weights that a hidden unit may have, kept to while the network trains.
        in_features: numbers in one input, for an image channels × height × width.
        num_classes: C, the number of logits.

    The default, 2×800, is the student of Hinton, Vinyals & Dean 2015 (arXiv 1503.02531).
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (800, 800),
        *,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        max_norm: float | None = None,
        in_features: int = 784,
        num_classes: int = 10,
    ) -> None:
        _check_positive("hidden", *hidden)
        _check_positive("in_features", in_features)
        _check_positive("num_classes", num_classes)
        linear = nn.Linear if max_norm is None else partial(MaxNormLinear, max_norm=max_norm)
        layers: list[nn.Module] = [nn.Flatten()]
        if input_dropout:
            layers.append(nn.Dropout(input_dropout))
        width = in_features
        for units in hidden:
            layers += [linear(width, units), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = units
        layers.append(nn.Linear(width, num_classes))
        super().__init__(*layers)
        # What it takes to build the same network again; save_model writes it beside the weights.
        self.config = {
            "hidden": list(hidden),
            "dropout": dropout,
            "input_dropout": input_dropout,
            "max_norm": max_norm,
            "in_features": in_features,
            "num_classes": num_classes,
        }

    def forward(self, inputs: Tensor) -> Tensor:
        """``(N, …)`` with ``in_features`` numbers for each input in, logits ``(N, num_classes)`` out."""
        try:
            return super().forward(inputs)
        except RuntimeError as error:
            if inputs.flatten(1).shape[1] != self.config["in_features"]:
                needs = f"inputs of {self.config['in_features']} numbers: for others, MLP(in_features=…)"
                raise _unsuitable(self, needs, inputs) from error
            raise


class MaxNormLinear(nn.Linear):
    """A linear layer none of whose units has a vector of incoming weights longer than ``max_norm`` when it trains.

    Longer ones are cut to that length before each forward pass in training mode.

    Source: Hinton, Srivastava, Krizhevsky, Sutskever & Salakhutdinov 2012, arXiv 1207.0580.
    """

    def __init__(self, in_features: int, out_features: int, *, max_norm: float) -> None:
        if not max_norm > 0:
            raise ValueError(f"max_norm must be above 0, got {max_norm!r}")
        super().__init__(in_features, out_features)
        self.max_norm = max_norm

    def forward(self, inputs: Tensor) -> Tensor:
        """``(N, in_features)`` in, ``(N, out_features)`` out."""
        if self.training:
            with torch.no_grad():
                self.weight.renorm_(p=2, dim=0, maxnorm=self.max_norm)
        return super().forward(inputs)


class Ensemble(nn.Module):
    """Several networks as one teacher: its logits are the mean of theirs."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        if not self.members:
            raise ValueError("members must hold at least one network, got none")

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """What each member takes in, logits ``(…, C)`` out; of a member's answer with ``logits``, these count."""
        answers = [member(*inputs, **named) for member in self.members]
        return torch.stack([getattr(answer, "logits", answer) for answer in answers]).mean(dim=0)


class CNN(nn.Sequential):
    """A small convolutional network: images ``(N, in_channels, H, W)`` in, logits ``(N, num_classes)`` out.

    Each entry of ``channels`` is a 3×3 convolution, a ReLU and a 2×2 max-pooling; one hidden layer follows.

    Args:
        channels: output channels of each convolution; at most four for 28×28, since each halves the image.
        hidden: units of the fully connected layer.
        dropout: probability of dropping one of these units.
        num_classes: C, the number of logits.
        in_channels: 1 for grey, 3 for colour.
        image_size: H and W of the images, in pixels; a single number for square ones.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (16, 32),
        *,
        hidden: int = 64,
        dropout: float = 0.0,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int | tuple[int, int] = 28,
    ) -> None:
        _check_positive("channels", *channels)
        _check_positive("hidden", hidden)
        _check_positive("num_classes", num_classes)
        _check_positive("in_channels", in_channels)
        height, width = _pair(image_size)
        _check_positive("image_size", height, width)
        most = min(height, width).bit_length() - 1  # halved once more, nothing would be left
        if not 1 <= len(channels) <= most:
            raise ValueError(
                f"channels must name 1 to {most} convolutions for a {height}×{width} image, got {channels!r}"
            )
        layers: list[nn.Module] = []
        maps_in = in_channels
        for maps_out in channels:
            layers += [nn.Conv2d(maps_in, maps_out, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            maps_in = maps_out
        places = (height >> len(channels)) * (width >> len(channels))
        layers += [nn.Flatten(), nn.Linear(maps_in * places, hidden), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(hidden, num_classes))
        super().__init__(*layers)
        self.config = {
            "channels": list(channels),
            "hidden": hidden,
            "dropout": dropout,
            "num_classes": num_classes,
            "in_channels": in_channels,
            "image_size": [height, width] if height != width else height,
        }

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, in_channels, H, W)`` in, logits ``(N, num_classes)`` out."""
        try:
            return super().forward(images)
        except RuntimeError as error:
            channels, height, width = self.config["in_channels"], *_pair(self.config["image_size"])
            if images.shape[1:] != (channels, height, width):
                needs = f"images (N, {channels}, {height}, {width}): for others, CNN(in_channels=…, image_size=…)"
                raise _unsuitable(self, needs, images) from error
            raise


class ConvNet(nn.Sequential):
    """3×3 convolutions with batch norm, no hidden layer: images ``(N, in_channels, H, W)`` in, logits out.

    Three stages see the image whole, at half and at a quarter of its size (28×28, 14×14 and 7×7 places for a digit);
    2×2 average-pooling leads from one to the next. The convolutions of the last stage have no padding, so each trims
    the map by one place on every side. The mean of each channel over the places that are left feeds one linear layer,
    so images may have any size. Made for few parameters: most of those of a :class:`CNN` lie in its hidden layer.

    Args:
        stages: output channels of the convolutions of each stage; the last stage has at most three.
        num_classes: C, the number of logits ``(N, num_classes)``.
        in_channels: 1 for grey, 3 for colour.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]] = ((6,), (10,), (10, 10)),
        *,
        num_classes: int = 10,
        in_channels: int = 1,
    ) -> None:
        if len(stages) != 3 or not all(stages) or len(stages[-1]) > 3:
            raise ValueError(
                "stages must name the convolutions of 3 stages, at least one in each and at most 3 in the last,"
                f" got {stages!r}"
            )
        _check_positive("stages", *(width for stage in stages for width in stage))
        _check_positive("num_classes", num_classes)
        _check_positive("in_channels", in_channels)
        layers: list[nn.Module] = []
        maps_in = in_channels
        for stage, padding in zip(stages, (1, 1, 0), strict=True):
            if layers:
                layers.append(nn.AvgPool2d(2))
            for maps_out in stage:
                # No bias: batch norm subtracts the mean of each channel and adds a bias of its own.
                layers.append(nn.Conv2d(maps_in, maps_out, kernel_size=3, padding=padding, bias=False))
                layers += [nn.BatchNorm2d(maps_out), nn.ReLU()]
                maps_in = maps_out
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps_in, num_classes))
        self.to(memory_format=torch.channels_last)  # half the time of the default on a CPU
        self.config = {
            "stages": [list(stage) for stage in stages],
            "num_classes": num_classes,
            "in_channels": in_channels,
        }

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, in_channels, H, W)`` in, logits ``(N, num_classes)`` out."""
        try:
            return super().forward(images)
        except RuntimeError as error:
            channels = self.config["in_channels"]
            if images.dim() != 4 or images.shape[1] != channels:
                needs = f"images (N, {channels}, H, W): for others, ConvNet(in_channels=…)"
                raise _unsuitable(self, needs, images) from error
            raise


def _unsuitable(model: nn.Module, needs: str, inputs: Tensor) -> ValueError:
    # Asked for only once PyTorch has failed: the right inputs are not checked, so they cost no time.
    return ValueError(f"this {type(model).__name__} takes {needs}. Got {tuple(inputs.shape)}")


def _check_positive(name: str, *values: int) -> None:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be whole numbers of at least 1, got {value!r}")


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = size if isinstance(size, Sequence) else (size, size)
    return height, width
