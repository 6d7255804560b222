"""Two network families for 28×28 digits."""

from torch import nn


class MLP(nn.Sequential):
    """A multilayer perceptron with ReLU: images ``(N, 1, 28, 28)`` in, logits ``(N, num_classes)`` out.

    Args:
        hidden: units of each hidden layer; ``()`` gives a linear classifier.
        dropout: probability of dropping a hidden unit.
        input_dropout: probability of dropping a pixel.
        in_features: pixels in an image.
        num_classes: C, the number of logits.

    The default, 2×800, is the student of Hinton, Vinyals & Dean 2015 (arXiv 1503.02531).
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (800, 800),
        *,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        in_features: int = 784,
        num_classes: int = 10,
    ) -> None:
        _check_positive("hidden", *hidden)
        _check_positive("in_features", in_features)
        _check_positive("num_classes", num_classes)
        layers: list[nn.Module] = [nn.Flatten()]
        if input_dropout:
            layers.append(nn.Dropout(input_dropout))
        width = in_features
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU()]
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
            "in_features": in_features,
            "num_classes": num_classes,
        }


class CNN(nn.Sequential):
    """A small convolutional network: images ``(N, 1, 28, 28)`` in, logits ``(N, num_classes)`` out.

    Each entry of ``channels`` is a 3×3 convolution, a ReLU and a 2×2 max-pooling; one hidden layer follows.

    Args:
        channels: output channels of each convolution; at most four, since each halves the image.
        hidden: units of the fully connected layer.
        dropout: probability of dropping one of these units.
        num_classes: C, the number of logits.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (16, 32),
        *,
        hidden: int = 64,
        dropout: float = 0.0,
        num_classes: int = 10,
    ) -> None:
        _check_positive("channels", *channels)
        _check_positive("hidden", hidden)
        _check_positive("num_classes", num_classes)
        if not 1 <= len(channels) <= 4:
            raise ValueError(f"channels must name 1 to 4 convolutions for a 28×28 image, got {channels!r}")
        layers: list[nn.Module] = []
        maps_in, side = 1, 28
        for maps_out in channels:
            layers += [nn.Conv2d(maps_in, maps_out, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            maps_in, side = maps_out, side // 2
        layers += [nn.Flatten(), nn.Linear(maps_in * side * side, hidden), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(hidden, num_classes))
        super().__init__(*layers)
        self.config = {
            "channels": list(channels),
            "hidden": hidden,
            "dropout": dropout,
            "num_classes": num_classes,
        }


def count_parameters(model: nn.Module) -> int:
    """How many numbers the model learns: the sizes of all its parameters, added up."""
    return sum(parameter.numel() for parameter in model.parameters())


def _check_positive(name: str, *values: int) -> None:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be whole numbers of at least 1, got {value!r}")
