"""A folder of colour pictures, made from real digits: the layout that people have their own pictures in."""

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .digits import DigitData

COUNTS = {"train": 2000, "val": 500, "test": 1000}
BLOTS, GRAIN = 0.12, 0.03  # how far the ground strays from its colour: in blots, and from pixel to pixel


def make_picture_folder(
    folder: str | Path, data: DigitData, counts: dict[str, int] = COUNTS, *, size: int = 32, seed: int = 0
) -> Path:
    """Write ``folder/<part>/<class>/<number>.png``: digits in coloured ink, anywhere on a coloured, textured ground.

    Ink and ground are drawn at random for each picture, so that colour says nothing about the class. Where more
    pictures are wanted than a part has digits, a digit comes up again, on another ground. Pictures are made from the
    part of ``data`` whose name they get, so that no digit is in two parts.

    Args:
        folder: made if it is not there; nothing may be in it yet.
        data: the digits.
        counts: pictures for each of "train", "val" and "test".
        size: width and height in pixels.
        seed: the same seed gives the same pictures.

    Returns:
        The folder.

    Raises:
        ValueError: there is something in the folder.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty, and other pictures would mix with these: name a new folder")
    generator = torch.Generator().manual_seed(seed)
    for part, count in counts.items():
        digits = getattr(data, part)
        chosen = torch.randperm(len(digits), generator=generator).repeat(1 + count // len(digits))[:count]
        pictures = _coloured(digits.images[chosen], size, generator)
        labels = digits.labels[chosen].tolist()
        for label in set(labels):
            (folder / part / str(label)).mkdir(parents=True, exist_ok=True)
        for number, (picture, label) in enumerate(zip(pictures.numpy(), labels, strict=True)):
            Image.fromarray(picture).save(folder / part / str(label) / f"{number:05}.png")
    return folder


def _coloured(digits: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Bytes ``(N, size, size, 3)`` from digits ``(N, 1, 28, 28)``."""
    count = len(digits)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    # Each digit in its own size, at its own place: 1 where there is ink, 0 where there is none.
    zoom = uniform(1.0, 1.4, count, 1, 1)
    place = (zoom - 1) * uniform(-1, 1, count, 2, 1)
    view = torch.cat([zoom * torch.eye(2), place], dim=2)
    places = F.affine_grid(view, [count, 1, size, size], align_corners=False)
    ink_share = F.grid_sample(digits, places, align_corners=False)
    # The ground: one colour and blots of others, with a fine grain over it.
    ground = uniform(0, 1, count, 3, 1, 1)
    blots = F.interpolate(uniform(-BLOTS, BLOTS, count, 3, 5, 5), size=size, mode="bicubic", align_corners=False)
    ink = (ground + uniform(0.35, 0.65, count, 3, 1, 1)) % 1  # at least 0.35 away from the ground in each channel
    pictures = (1 - ink_share) * (ground + blots) + ink_share * ink
    pictures += GRAIN * torch.randn(pictures.shape, generator=generator)
    return (255 * pictures.clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
