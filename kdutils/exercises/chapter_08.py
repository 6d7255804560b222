"""Chapter 8: what a step costs, what memory holds, what may be computed once."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .answers import as_numbers, call, choose, compare, number_list, shown


def larger_batches(answer: object) -> str | None:
    """8.1: which part hardly grows with the number of images."""
    return choose(
        answer,
        "b",
        {
            "a": "It is a loop in Python, image by image. What could make eight times the rounds cost much less than "
            "eight times the time?",
            "c": "The teacher is large: nearly all of its time is arithmetic. Which network "
            "has so little of it that starting the operations counts?",
            "d": "Eight times the images are eight times the arithmetic. But how much of a step is arithmetic, when a "
            "network has two layers of 30 units?",
        },
    )


def gibibytes(answer: object) -> str | None:
    """8.2: the memory that images take."""

    def right(count: int, channels: int, height: int, width: int, bytes_each: int) -> float:
        return count * channels * height * width * bytes_each / 2**30

    def times(change: Callable[..., float]) -> Callable[..., float]:
        return lambda *sizes: right(*sizes) * change(*sizes)

    wrong = {
        "That is in units of 10⁹ bytes, gigabytes. A gibibyte is 2³⁰ bytes.": times(lambda *_: 2**30 / 1e9),
        "That is in bytes. A gibibyte is 2³⁰ of them.": times(lambda *_: 2**30),
        "That is in mebibytes, 2²⁰ bytes. A gibibyte is 2³⁰.": times(lambda *_: 1024),
        "The channels are missing: a colour image has three numbers for each pixel.": times(
            lambda n, c, h, w, b: 1 / c
        ),
        "That is for numbers of one byte. How many has each of these?": times(lambda n, c, h, w, b: 1 / b),
        "You divided by the bytes of a number; each number takes that many.": times(lambda n, c, h, w, b: 1 / b**2),
        "That counts bits: a byte has eight of them.": times(lambda *_: 8),
        "The width is missing: an image has height times width pixels.": times(lambda n, c, h, w, b: 1 / w),
    }
    return compare(answer, [(10**6, 3, 200, 224, 4), (70_000, 1, 28, 28, 4), (10**6, 3, 224, 224, 1)], right, wrong)


def megabytes_of_logits(answer: object) -> str | None:
    """8.3: twelve views of 60,000 images, ten classes, float32."""
    (found,) = number_list(answer, 1)
    right = 60_000 * 12 * 10 * 4 / 1e6
    hints = {
        right / 12: "That is for one view of each image. There are twelve.",
        right / 4: "That counts numbers, not bytes. How many bytes has a number in float32?",
        right / 10: "That is one number for each view. A row of logits has one for each class.",
        right / 2: "That is for half precision. A number in float32 has four bytes.",
        right * 2: "That is for float64. A number in float32 has four bytes.",
        right * 8: "That counts bits: a byte has eight of them.",
        right
        * 784
        / 10: "That is what the views themselves take, 784 pixels each. The teacher's logits are asked for.",
        right * 1e6: "That is in bytes. A megabyte has a million of them.",
        right / 1e3: "That is in gigabytes, thousands of megabytes.",
        right * 1e6 / 2**20: "That is in mebibytes, 2²⁰ bytes. Give megabytes, 10⁶ bytes.",
    }
    for value, hint in hints.items():
        if math.isclose(found, value, rel_tol=0.01):
            return hint
    if math.isclose(found, right, rel_tol=0.01):
        return None
    return f"It is not {found:g}. Multiply: images, views of each, numbers in a row of logits, bytes of each number."


class Watched(nn.Module):
    """A made-up teacher with dropout; notes how many images it was asked about at once, and whether with gradients."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(9, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4))
        self.asked: list[int] = []
        self.with_gradients = False

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch."""
        self.asked.append(len(images))
        self.with_gradients |= torch.is_grad_enabled()
        return self.layers(images)


def logits_once(answer: object) -> str | None:
    """8.4: the teacher's logits for all images, computed once."""

    def right(teacher: nn.Module, images: Tensor, batch_size: int) -> Tensor:
        with torch.no_grad():
            return teacher.eval()(images)

    torch.manual_seed(0)
    teacher, images = Watched(), torch.randn(10, 1, 3, 3)
    expected = as_numbers(right(teacher, images, 4))
    teacher.train()
    teacher.asked, teacher.with_gradients = [], False
    found = as_numbers(call(answer, right, (teacher, images.clone(), 4)))
    if found.shape == expected.softmax(-1).shape and torch.allclose(found.sum(-1), torch.ones(10).double(), atol=1e-5):
        return "These are probabilities. Store logits: a probability that was rounded to 0 stays 0 at every T."
    if found.shape in ((8, 4), (4, 4)):
        return (
            f"For 10 images in batches of 4 you return {len(found)} rows. The last batch may be smaller than the "
            "others; it counts all the same, and so does each before it."
        )
    if found.shape != expected.shape:
        return f"For 10 images and 4 classes the logits have shape (10, 4); yours have {tuple(found.shape)}."
    if not torch.allclose(found, expected, atol=1e-4):
        if teacher.training:
            return (
                "The teacher was asked in training mode: dropout makes each answer another one, and all epochs would "
                "learn from this one draw."
            )
        if torch.allclose(found.sort(dim=0).values, expected.sort(dim=0).values, atol=1e-4):
            return (
                "The rows are in another order than the images. Row i must belong to image i, whatever shuffles later."
            )
        return (
            f"Row 0 is {shown(found[0])}; the teacher's own answer to image 0, in eval mode, is {shown(expected[0])}."
        )
    if max(teacher.asked) > 4:
        return (
            f"The logits are right, but the teacher got {max(teacher.asked)} images at once. A data set may not fit "
            "through a network in one piece: keep to batch_size."
        )
    if teacher.with_gradients:
        return (
            "The logits are right, but not without gradients: what every layer computed is kept for a backward "
            "pass that never comes. Which context switches that off?"
        )
    return None


def times_faster(answer: object) -> str | None:
    """8.5: how much faster a step gets if some of its parts cost nothing."""

    def sums(took: dict[str, float], free: list[str]) -> tuple[float, float]:
        return sum(took.values()), sum(took[part] for part in free)

    def right(took: dict[str, float], free: list[str]) -> float:
        whole, gone = sums(took, free)
        return whole / (whole - gone)

    def of(change: Callable[[float, float], float]) -> Callable[..., float]:
        return lambda took, free: change(*sums(took, free))

    wrong = {
        "That compares the parts taken away with what is left. Compare the *whole* step before with that after.": of(
            lambda whole, gone: gone / (whole - gone)
        ),
        "That compares the whole step with the parts taken away. What is left of a step when they are gone?": of(
            lambda whole, gone: whole / gone
        ),
        "That is upside down: the time before, divided by the time after.": of(
            lambda whole, gone: (whole - gone) / whole
        ),
        "That is the share of the time saved. How many times faster is a step that saves half of its time?": of(
            lambda whole, gone: gone / whole
        ),
        "That is the time left, in microseconds. Compare it with the time before.": of(
            lambda whole, gone: whole - gone
        ),
        "Only the first of the parts was taken away. All in the list are to cost nothing.": lambda took, free: right(
            took, free[:1]
        ),
    }
    cases = [
        ({"images": 900.0, "teacher": 500.0, "student": 350.0, "rest": 50.0}, ["images", "teacher"]),
        ({"images": 10.0, "student": 30.0}, ["images"]),
        ({"images": 10.0, "student": 30.0}, []),
    ]
    return compare(answer, cases, right, wrong)


EXERCISES = (larger_batches, gibibytes, megabytes_of_logits, logits_once, times_faster)
