"""Chapter 1: what a network costs, the steps in their order, a first look at an interval and at a gradient."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .answers import choose, compare
from .intervals import t_interval, wrong_intervals


def watch_and_server(answer: object) -> str | None:
    """1.1: which number decides."""
    return choose(
        answer,
        "b",
        {
            "a": "Parameters tell the size of the file, four bytes each, so they answer for the watch. Do they "
            "also tell how long a million images take? Compare the convolutional network's two columns.",
            "c": "Multiply–adds say what is computed, and nothing of what is stored. Also, look at the figure: do two "
            "networks with fewer multiply–adds always take less time?",
            "d": "Right for the watch. But the time of one image alone is mostly the start of each operation. The "
            "server starts each operation once for a whole batch.",
        },
    )


def cost_of_mlp(answer: object) -> str | None:
    """1.2: parameters and multiply–adds of a multilayer perceptron."""

    def weights(sizes: list[int]) -> int:
        return sum(a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))

    def right(sizes: list[int]) -> tuple[int, int]:
        return weights(sizes) + sum(sizes[1:]), weights(sizes)

    wrong = {
        "The parameters are right. A bias is added, but nothing is multiplied by it, so it is not a multiply–add.": (
            lambda sizes: (right(sizes)[0],) * 2
        ),
        "The multiply–adds are right. Each unit behind the input also has a bias, and a bias is a parameter.": (
            lambda sizes: (weights(sizes),) * 2
        ),
        "You have the two numbers in the other order: parameters first, then multiply–adds.": (
            lambda sizes: right(sizes)[::-1]
        ),
        "The biases of the last layer are missing. The outputs are units too.": lambda sizes: (
            weights(sizes) + sum(sizes[1:-1]),
            weights(sizes),
        ),
        "You gave the inputs a bias. Inputs are pixels: biases begin with the first layer of units.": lambda sizes: (
            weights(sizes) + sum(sizes),
            weights(sizes),
        ),
        "The parameters are right. You counted a multiplication and an addition as two; one multiply–add is both.": (
            lambda sizes: (right(sizes)[0], 2 * weights(sizes))
        ),
        "That is the first layer alone. Every pair of neighbouring layers has its weights.": lambda sizes: (
            sizes[0] * sizes[1] + sizes[1],
            sizes[0] * sizes[1],
        ),
    }
    return compare(answer, [([6, 5, 4, 3],), ([784, 32, 10],), ([7, 2],)], right, wrong)


def image_interval(answer: object) -> str | None:
    """1.3: the change in errors, with an interval over images."""

    def per_image(distilled: Tensor, labels: Tensor) -> np.ndarray:
        return (distilled - labels).mean(dim=0).numpy()

    def on_all(distilled: Tensor, labels: Tensor) -> np.ndarray:
        return per_image(distilled, labels) * labels.shape[1]

    def per_seed(distilled: Tensor, labels: Tensor) -> np.ndarray:
        return (distilled - labels).sum(dim=1).numpy()

    def right(distilled: Tensor, labels: Tensor) -> tuple:
        return t_interval(on_all(distilled, labels))

    wrong = {
        "That is the interval over seeds, which section 4 has already. Average over the seeds first: one number for "
        "each image is left, and these are the values of the interval.": lambda a, b: t_interval(per_seed(a, b)),
        "The sign is turned round: distilled minus labels, so that fewer errors are a negative change.": (
            lambda a, b: right(b, a)
        ),
        "This is the change for one image, a share. How many errors is that on all N images?": (
            lambda a, b: t_interval(per_image(a, b))
        ),
        "All three are too large by the number of seeds. A *share* of the seeds is asked for: average over them.": (
            lambda a, b: t_interval(on_all(a, b) * len(a))
        ),
    } | wrong_intervals(on_all)
    generator = torch.Generator().manual_seed(0)
    cases = [
        tuple((torch.rand(2, seeds, images, generator=generator) < 0.4).double())
        for seeds, images in ((4, 9), (2, 12), (3, 15))
    ]
    return compare(answer, cases, right, wrong)


def soft_pull(answer: object) -> str | None:
    """1.4: the length of the soft term's gradient with respect to the student's logits."""

    def right(s: Tensor, t: Tensor, T: float) -> Tensor:
        return T * ((s / T).softmax(-1) - (t / T).softmax(-1)).norm() / len(s)

    def reverse(s: Tensor, t: Tensor, T: float) -> Tensor:
        s = s.clone().requires_grad_()
        loss = T**2 * F.kl_div((t / T).log_softmax(-1), (s / T).softmax(-1), reduction="batchmean")
        return torch.autograd.grad(loss, s)[0].norm()

    def value(s: Tensor, t: Tensor, T: float) -> Tensor:
        return T**2 * F.kl_div((s / T).log_softmax(-1), (t / T).softmax(-1), reduction="batchmean")

    def gap(s: Tensor, t: Tensor, T: float) -> Tensor:
        return (s / T).softmax(-1) - (t / T).softmax(-1)

    wrong = {
        "The factor T² is missing: compare with the line of section 4 that computes `soft`.": (
            lambda s, t, T: right(s, t, T) / T**2
        ),
        'Divided by the number of classes, too: section 4 passes reduction="batchmean".': (
            lambda s, t, T: right(s, t, T) / s.shape[-1]
        ),
        "This is the gradient of the sum over the batch; section 4 has the mean over the images.": (
            lambda s, t, T: right(s, t, T) * len(s)
        ),
        "The two networks have changed places in `kl_div`: the student's logarithms come first.": reverse,
        "This is the loss itself. Asked for is the length of its gradient: how hard it pulls at the logits.": value,
        "The teacher's logits are not softened. The targets of section 4 are a softmax of its logits divided by T.": (
            lambda s, t, T: T * ((s / T).softmax(-1) - t.softmax(-1)).norm() / len(s)
        ),
        "The student's logits are not softened: both answers have to be at the same T.": (
            lambda s, t, T: T**2 * (s.softmax(-1) - (t / T).softmax(-1)).norm() / len(s)
        ),
        "The gradient is right. Its length is asked for: one number, the root of the sum of its squares.": (
            lambda s, t, T: T * gap(s, t, T) / len(s)
        ),
        "The gradient adds up to zero in every row, whatever it is. A length is the root of a sum of squares.": (
            lambda s, t, T: 0.0
        ),
        "These are the sizes of the entries added up. The length is the root of the sum of their squares.": (
            lambda s, t, T: T * gap(s, t, T).abs().sum() / len(s)
        ),
    }
    generator = torch.Generator().manual_seed(0)

    def case(n: int, classes: int, T: float) -> tuple:
        return (*(3 * torch.randn(2, n, classes, generator=generator, dtype=torch.float64)), T)

    return compare(answer, [case(5, 4, 3.0), case(1, 10, 20.0), case(2, 3, 1.0)], right, wrong)


def steps_in_order(answer: object) -> str | None:
    """1.5: the letters of the five steps, in their order."""
    letters = (
        "".join(answer) if isinstance(answer, (list, tuple)) and all(isinstance(x, str) for x in answer) else answer
    )
    order = [x for x in letters.lower() if x.isalpha()] if isinstance(letters, str) else []
    if sorted(order) != list("abcde"):
        return "Write the five letters in their order, each once, in one string, such as 'abcde'."
    place = {letter: order.index(letter) for letter in "abcde"}
    rules = [  # the earlier one, the later one, and what is wrong if they are not in this order
        ("c", "a", "A frozen network does not learn any more. What must happen to the teacher before it is frozen?"),
        ("c", "d", "The teacher is asked before it was trained. What would its answers be worth?"),
        ("d", "b", "The student learns from soft targets that are not there yet. Who makes them, and when?"),
        ("b", "e", "The student is used before it has learned anything. What comes last?"),
        (
            "a",
            "d",
            "Nearly. As long as it is not frozen, a teacher with dropout answers differently each time: when are "
            "its answers to be taken?",
        ),
    ]
    for earlier, later, hint in rules:
        if place[earlier] > place[later]:
            return hint
    return None


EXERCISES = (watch_and_server, cost_of_mlp, image_interval, soft_pull, steps_in_order)
