"""Random views of images: each image of a batch is changed by its own draw, on the device where the batch lies."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def random_shift(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Each image moved by its own whole number of pixels, −pixels … pixels along each axis.

    What moves out is lost; what moves in is 0. Nothing wraps round to the other side.

    Args:
        images: ``(N, channels, H, W)``; all channels of an image move together.
        pixels: the largest shift, at least 0.
        generator: a CPU generator; two draws per image.

    Source: the input jitter of Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 3 (±2 pixels).
    """
    count, height, width = _sizes(images)
    if pixels < 0:
        raise ValueError(f"pixels must be at least 0, got {pixels!r}")
    start = torch.randint(0, 2 * pixels + 1, (2, count, 1), generator=generator).to(images.device)
    rows = start[0] + torch.arange(height, device=images.device)  # (N, H)
    columns = start[1] + torch.arange(width, device=images.device)  # (N, W)
    padded = F.pad(images, (pixels,) * 4)
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image ``(N, channels, H, W)`` as it is or, in half of the draws, with left and right exchanged.

    For photographs; a digit or a letter would become another sign, or none.
    """
    count, _, _ = _sizes(images)
    flipped = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    return torch.where(flipped.to(images.device), images.flip(-1), images)


def random_warp(
    images: Tensor,
    generator: torch.Generator,
    *,
    degrees: float = 10.0,
    scale: float = 0.1,
    shear: float = 0.1,
    pixels: float = 2.0,
    elastic: float = 0.0,
) -> Tensor:
    """Each image turned, stretched, sheared, moved and, if asked for, bent like rubber, by its own random amounts.

    All of it is one bilinear sampling of the image, so that it is blurred once and not five times. What comes in
    from outside is 0.

    Args:
        images: floating point, ``(N, channels, H, W)``; all channels of an image are bent together.
        generator: a CPU generator.
        degrees: turns by −degrees … degrees.
        scale: stretches each axis by a factor of 1 − scale … 1 + scale.
        shear: slants by a factor of −shear … shear.
        pixels: moves by −pixels … pixels along each axis, fractions included.
        elastic: standard deviation in pixels of a 5×5 grid of random shifts, spread smoothly over the image; 0 is
            no bending.

    Source: affine and elastic distortions of digits, Simard, Steinkraus & Platt, ICDAR 2003,
    doi 10.1109/ICDAR.2003.1227801.
    """
    count, height, width = _sizes(images)
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}: give images.float() / 255 for bytes")
    for name, value in (("degrees", degrees), ("shear", shear), ("pixels", pixels), ("elastic", elastic)):
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value!r}")
    if not 0 <= scale < 1:
        raise ValueError(f"scale must lie in [0, 1), got {scale!r}")
    draws = 2 * torch.rand(6, count, generator=generator) - 1
    angle, slant = math.radians(degrees) * draws[0], shear * draws[1]
    stretch_x, stretch_y = 1 + scale * draws[2], 1 + scale * draws[3]
    cos, sin = angle.cos(), angle.sin()
    # From places in the view to places in the image, in units of half an image: turn, slant, stretch, move. A half is
    # longer along one side than along the other, so what leads from axis to axis takes the ratio of the two.
    tall = height / width
    to_x = [stretch_x * cos, tall * stretch_x * (slant * cos - sin), draws[4] * 2 * pixels / width]
    to_y = [stretch_y * sin / tall, stretch_y * (slant * sin + cos), draws[5] * 2 * pixels / height]
    steps = torch.stack([torch.stack(to_x, dim=1), torch.stack(to_y, dim=1)], dim=1)  # (N, 2, 3)
    # Only the draws are made on the CPU, so that they are the same for every device.
    places = F.affine_grid(steps.to(images.device), list(images.shape), align_corners=False)
    if elastic:
        pixel = torch.tensor([2 / width, 2 / height]).reshape(1, 2, 1, 1)
        bends = elastic * pixel * torch.randn(count, 2, 5, 5, generator=generator)
        smooth = F.interpolate(bends.to(images.device), size=(height, width), mode="bicubic", align_corners=True)
        places = places + smooth.permute(0, 2, 3, 1)
    # A place in half precision would be off by pixels, so that such images are sampled in single precision.
    fine = images.to(torch.promote_types(images.dtype, torch.float32))
    view = F.grid_sample(fine, places.to(fine), padding_mode="zeros", align_corners=False)
    return view.to(images.dtype)


def _sizes(images: Tensor) -> tuple[int, int, int]:
    if not isinstance(images, Tensor) or images.dim() != 4:
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images must be a tensor (N, channels, H, W), got {found}")
    return images.shape[0], images.shape[2], images.shape[3]
