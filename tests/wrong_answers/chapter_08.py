"""Chapter 8: what a step costs, what memory holds, what may be computed once."""

import torch


def batches(images, size):
    return [images[start : start + size] for start in range(0, len(images), size)]


def stored(teacher, images, size, *, evaluate=True, gradients=False):
    if evaluate:
        teacher.eval()
    with torch.set_grad_enabled(gradients):
        return torch.cat([teacher(batch) for batch in batches(images, size)])


def whole_batches_only(teacher, images, size):
    return stored(teacher, images[: len(images) // size * size], size)


def shuffled(teacher, images, size):
    return stored(teacher, images[torch.randperm(len(images))], size)


def left(took, free):
    return sum(took[part] for part in took if part not in free)


WRONG = {
    "08-1": [("a", "loop in Python"), ("c", "teacher is large"), ("d", "two layers of 30")],
    "08-2": [
        (lambda n, c, h, w, b: n * c * h * w * b / 1e9, "gigabytes"),
        (lambda n, c, h, w, b: n * c * h * w * b, "That is in bytes"),
        (lambda n, c, h, w, b: n * c * h * w * b / 2**20, "mebibytes"),
        (lambda n, c, h, w, b: n * h * w * b / 2**30, "channels are missing"),
        (lambda n, c, h, w, b: n * c * h * w / 2**30, "numbers of one byte"),
        (lambda n, c, h, w, b: n * c * h * w / b / 2**30, "You divided by"),
        (lambda n, c, h, w, b: n * c * h * w * b * 8 / 2**30, "bits"),
        (lambda n, c, h, w, b: n * c * h * b / 2**30, "width is missing"),
    ],
    "08-3": [
        (2.4, "one view of each"),
        ([7.2], "not bytes"),
        (2.88, "one for each class"),
        (14.4, "half precision"),
        (57.6, "float64"),
        (230.4, "bits"),
        (60_000 * 12 * 784 * 4 / 1e6, "views themselves"),
        (28_800_000, "in bytes"),
        (0.0288, "in gigabytes"),
        (27.47, "in mebibytes"),
        (33, "not 33"),
    ],
    "08-4": [
        (lambda teacher, images, size: stored(teacher, images, size, evaluate=False), "in training mode"),
        (lambda teacher, images, size: stored(teacher, images, size, gradients=True), "without gradients"),
        (lambda teacher, images, size: stored(teacher, images, len(images)), "10 images at once"),
        (lambda teacher, images, size: stored(teacher, images, size).softmax(dim=1), "These are probabilities"),
        (whole_batches_only, "return 8 rows"),
        (shuffled, "in another order"),
        (lambda teacher, images, size: stored(teacher, images, size).argmax(dim=1), "yours have (10,)"),
        (lambda teacher, images, size: stored(teacher, -images, size), "own answer to image 0"),
    ],
    "08-5": [
        (lambda took, free: sum(took[part] for part in free) / left(took, free), "the *whole* step before"),
        (lambda took, free: sum(took.values()) / sum(took[part] for part in free), "when they are gone"),
        (lambda took, free: left(took, free) / sum(took.values()), "upside down"),
        (lambda took, free: sum(took[part] for part in free) / sum(took.values()), "share of the time saved"),
        (left, "in microseconds"),
        (lambda took, free: sum(took.values()) / left(took, free[:1]), "Only the first"),
    ],
}
