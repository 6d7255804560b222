"""views.py: every image of a batch is changed by its own draw, by as much as was asked for and not more."""

from collections import Counter
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from kdutils import random_shift, random_warp
from kdutils.views import random_flip

STILL = {"degrees": 0.0, "scale": 0.0, "shear": 0.0, "pixels": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """One image shifted pixel by pixel, the slow and obvious way."""
    out = torch.zeros_like(image)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                out[0, row, column] = image[0, row - down, column - right]
    return out


@pytest.mark.parametrize("height, width, pixels", [(5, 4, 2), (4, 6, 1), (5, 4, 3)])
def test_random_shift_moves_each_image_by_its_own_draw_and_wraps_nothing_round(height, width, pixels):
    images = torch.rand(300, 1, height, width, generator=torch.Generator().manual_seed(0)) + 0.5
    before = images.clone()
    shifted = random_shift(images, pixels, torch.Generator().manual_seed(1))
    assert torch.equal(images, before)
    steps = range(-pixels, pixels + 1)
    seen = Counter()
    for image, result in zip(images, shifted, strict=True):
        matches = [(d, r) for d in steps for r in steps if torch.equal(result, moved(image, d, r))]
        assert matches  # no other content: what moved out is gone and what moved in is 0
        seen[matches[0]] += 1
    shares = torch.tensor([seen[d, r] / 300 for d in steps for r in steps])
    assert (shares > 0).sum() >= 0.9 * len(shares) and shares.max() < 3 / len(shares)


def test_random_shift_repeats_with_the_seed_and_refuses_negative_pixels():
    images = torch.rand(50, 1, 8, 8)
    one, two = (random_shift(images, 2, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(random_shift(images, 0, torch.Generator()), images)
    with pytest.raises(ValueError, match="pixels must be at least 0, got -1"):
        random_shift(images, -1, torch.Generator())


def spots(count: int) -> torch.Tensor:
    """A round blob in the middle of each of ``count`` images."""
    place = torch.arange(28) - 13.5
    blob = torch.exp(-(place[:, None] ** 2 + place[None, :] ** 2) / 18)
    return blob.expand(count, 1, 28, 28).clone()


def centres(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the ink is on average: pixels right of and below the middle."""
    place = torch.arange(28) - 13.5
    ink = images.sum(dim=(1, 2, 3))
    return (images.sum(dim=(1, 2)) @ place) / ink, (images.sum(dim=(1, 3)) @ place) / ink


def test_random_warp_without_any_strength_changes_nothing():
    images = torch.rand(20, 1, 28, 28, generator=seeded())
    assert torch.allclose(random_warp(images, seeded(), **STILL), images, atol=1e-5)


def test_random_warp_moves_each_image_by_up_to_so_many_pixels():
    right, down = centres(random_warp(spots(500), seeded(), **STILL | {"pixels": 2.0}))
    for shift in (right, down):
        assert shift.abs().max() <= 2.01
        assert shift.min() < -1.8 and shift.max() > 1.8
        assert len(shift.unique()) > 400
    assert abs(torch.corrcoef(torch.stack([right, down]))[0, 1]) < 0.2


def test_random_warp_turns_by_up_to_so_many_degrees():
    bar = torch.zeros(300, 1, 28, 28)
    bar[:, :, 13:15, 4:24] = 1
    turned = random_warp(bar, seeded(), **STILL | {"degrees": 30.0})
    place = torch.arange(28) - 13.5
    ink = turned.sum(dim=(1, 2, 3))
    spread_x = (turned.sum(dim=(1, 2)) @ place**2) / ink
    both = torch.einsum("nij,i,j->n", turned[:, 0], place, place) / ink
    angle = torch.rad2deg(torch.atan2(both, spread_x))
    assert 27 < angle.abs().max() < 31
    assert (angle > 0).float().mean() == pytest.approx(0.5, abs=0.1)


def test_random_warp_stretches_each_axis_by_itself():
    stretched = random_warp(spots(300), seeded(), **STILL | {"scale": 0.2})
    place = torch.arange(28) - 13.5
    ink = stretched.sum(dim=(1, 2, 3))
    widths = ((stretched.sum(dim=(1, 2)) @ place**2) / ink).sqrt()
    heights = ((stretched.sum(dim=(1, 3)) @ place**2) / ink).sqrt()
    # A blob of width 3 between 3 / 1.2 and 3 / 0.8 wide: the factor is from places in the view to places in the image.
    for size in (widths, heights):
        assert 2.4 < size.min() < 2.6 and 3.5 < size.max() < 3.8
    assert abs(torch.corrcoef(torch.stack([widths, heights]))[0, 1]) < 0.2


def test_random_warp_slants():
    bar = torch.zeros(300, 1, 28, 28)
    bar[:, :, 4:24, 13:15] = 1
    slanted = random_warp(bar, seeded(), **STILL | {"shear": 0.3})
    place = torch.arange(28) - 13.5
    ink = slanted.sum(dim=(1, 2, 3))
    slope = torch.einsum("nij,i,j->n", slanted[:, 0], place, place) / (slanted.sum(dim=(1, 3)) @ place**2)
    assert 0.25 < slope.abs().max() < 0.33
    assert ink.min() > 0


def test_elastic_bends_smoothly_by_about_so_many_pixels():
    # An image whose brightness is the column shows, in each pixel, from which column it was taken.
    ramp = (torch.arange(28.0) / 28).expand(400, 1, 28, 28).clone()
    bent = random_warp(ramp, seeded(), **STILL | {"elastic": 1.0})
    shift = (28 * (bent - ramp))[:, 0, 6:22, 6:22]  # away from the edges, where 0 comes in
    assert 0.5 < shift.std() < 1.0  # the grid's own points have 1, the places between them less
    assert shift.diff(dim=2).abs().mean() < 0.3 * shift.abs().mean()
    assert shift.mean(dim=(1, 2)).abs().min() < 0.1 < shift.mean(dim=(1, 2)).abs().max()


def test_random_warp_repeats_with_the_seed_and_leaves_its_input_alone():
    images = torch.rand(10, 1, 28, 28)
    before = images.clone()
    one, two, other = (random_warp(images, seeded(s), elastic=1.0) for s in (4, 4, 5))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(images, before)


def test_what_comes_in_from_outside_is_0():
    white = torch.ones(200, 1, 28, 28)
    view = random_warp(white, seeded())
    assert view.min() == 0 and view.max() <= 1 + 1e-6
    assert torch.allclose(view[:, :, 8:20, 8:20], F.interpolate(white, 12), atol=1e-5)


@pytest.mark.parametrize(
    ("argument", "value"), [("degrees", -1.0), ("shear", -0.1), ("pixels", -2.0), ("elastic", -1.0), ("scale", 1.0)]
)
def test_random_warp_refuses_bad_strengths(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must .* got {value}"):
        random_warp(torch.rand(2, 1, 28, 28), seeded(), **{argument: value})


# Any picture


def bar_angles(height: int, width: int, **strength) -> torch.Tensor:
    """Degrees from the horizontal of a bar in the middle of many views."""
    rows, columns = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    # Soft ends and edges, so that no pixel's share is lost in sampling.
    bar = torch.exp(-((columns[None, :] / 7) ** 4) - (rows[:, None] / 2) ** 4).expand(300, 1, height, width)
    turned = random_warp(bar.clone(), seeded(), **STILL | strength)[:, 0]
    across = torch.einsum("nij,j->n", turned, columns**2) - torch.einsum("nij,i->n", turned, rows**2)
    both = torch.einsum("nij,i,j->n", turned, rows, columns)
    return torch.rad2deg(torch.atan2(2 * both, across)) / 2  # the main axis of the ink


@pytest.mark.parametrize("height, width", [(28, 28), (28, 96), (96, 28), (40, 30)])
def test_random_warp_turns_by_the_same_degrees_in_a_picture_that_is_not_square(height, width):
    angles = bar_angles(height, width, degrees=30.0)
    assert 29 < angles.max() < 30.1 and -30.1 < angles.min() < -29


def test_random_warp_slants_by_the_same_factor_in_a_picture_that_is_not_square():
    slopes = []
    for width in (28, 84):
        bar = torch.zeros(300, 1, 28, width)
        bar[:, :, 4:24, width // 2 - 1 : width // 2 + 1] = 1
        slanted = random_warp(bar, seeded(), **STILL | {"shear": 0.3})
        rows, columns = torch.arange(28) - 13.5, torch.arange(width) - (width - 1) / 2
        both = torch.einsum("nij,i,j->n", slanted[:, 0], rows, columns)
        slopes.append(both / (slanted.sum(dim=(1, 3)) @ rows**2))
    torch.testing.assert_close(slopes[0], slopes[1], atol=0.01, rtol=0)


@pytest.mark.parametrize("view", [lambda x: random_shift(x, 3, seeded()), lambda x: random_warp(x, seeded()), None])
@pytest.mark.parametrize("shape", [(32, 32), (20, 45)])
def test_all_channels_of_a_picture_go_together(view, shape):
    view = view or (lambda x: random_flip(x, seeded()))
    grey = torch.rand(20, 1, *shape, generator=seeded())
    colour = view(torch.cat([grey, 2 * grey, grey / 2], dim=1))
    assert colour.shape == (20, 3, *shape)
    # Each channel is what it would have been alone.
    torch.testing.assert_close(colour, view(grey) * torch.tensor([1, 2, 0.5]).reshape(1, 3, 1, 1))


def test_random_flip_exchanges_left_and_right_of_half_of_the_pictures():
    images = torch.rand(400, 3, 4, 5, generator=seeded())
    before = images.clone()
    views = random_flip(images, seeded(1))
    flipped = [torch.equal(view, image.flip(-1)) for view, image in zip(views, images, strict=True)]
    kept = [torch.equal(view, image) for view, image in zip(views, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True)) and 160 < sum(flipped) < 240
    assert torch.equal(images, before) and torch.equal(views, random_flip(images, seeded(1)))


def test_random_warp_is_as_exact_in_half_precision_as_the_pictures_are():
    images = torch.rand(10, 1, 64, 64, generator=seeded())
    for dtype in (torch.bfloat16, torch.float64):
        view = random_warp(images.to(dtype), seeded())
        assert view.dtype == dtype
        torch.testing.assert_close(view.float(), random_warp(images.to(dtype).float(), seeded()), atol=4e-3, rtol=0)


@pytest.mark.parametrize("view", [partial(random_shift, pixels=1), random_warp, random_flip])
@pytest.mark.parametrize("images, found", [(torch.rand(3, 28, 28), r"\(3, 28, 28\)"), ({"a": torch.rand(3)}, "dict")])
def test_what_is_no_picture_is_named(view, images, found):
    with pytest.raises(ValueError, match=rf"images must be a tensor \(N, channels, H, W\), got {found}"):
        view(images, generator=seeded())


def test_bytes_can_be_shifted_and_flipped_and_random_warp_says_what_to_do():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert random_shift(images, 1, seeded()).dtype == random_flip(images, seeded()).dtype == torch.uint8
    with pytest.raises(ValueError, match=r"floating point, got torch.uint8: give images.float\(\) / 255"):
        random_warp(images, seeded())
