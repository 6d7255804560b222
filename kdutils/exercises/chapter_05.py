"""Chapter 5: finding bugs, and writing a step that has none."""

import numpy as np
import torch
from torch import Tensor, nn

from ..diagnose import check_distillation
from .answers import NotYet, call, compare, number_list

PRESENT = {
    7: "One bug is still hidden between the teacher and the loss: follow one row of its answer. How many times does a "
    "softmax go over it?",
    5: "Look at the call of `kl_div` once more: it is missing an argument, and what does PyTorch then divide by?",
    11: "Row 0 of `stored` belongs to the first image of which pass? Ask whether the loader deals out the same order "
    "twice.",
    15: "One bug is outside of the training step: which images decide which epoch is kept, and what will be reported?",
}
ABSENT = {
    1: "Room 1 is not here: the teacher was trained elsewhere, and its weights are loaded.",
    2: "Room 2 is not here: the labels go into `cross_entropy`, where they belong.",
    3: "Room 3 is not here: `kl_div` gets the student's logarithms first, as it should.",
    4: "Room 4 is not here: the target is a logarithm, and `log_target=True` says so.",
    6: "Room 6 is not here: T² stands in front of the soft term.",
    8: "Room 8 is not here: `teacher.eval()` is called before the teacher is asked.",
    9: "Room 9 is not here: the teacher answers under `no_grad`, and stored numbers take no gradient.",
    10: "Room 10 is not here: a teacher in eval mode leaves its batch norm alone.",
    12: "Room 12 is not here: no image is moved, so a stored answer belongs to the image as the student sees it.",
    13: "Room 13 is not here: `student.train()` opens each epoch, also after the errors were counted.",
    14: "Room 14 is not here: it is the student whose answer carries the gradient.",
    16: "Room 16 is about repeating the run with other seeds, which a single script cannot show. Leave it out here.",
}


def rooms_of_the_script(answer: object) -> str | None:
    """5.1: the numbers of the rooms whose bugs the script has."""
    listed = sorted(answer) if isinstance(answer, set) else answer
    if not isinstance(listed, (list, tuple)) or not listed:
        raise NotYet("Answer with a list of room numbers, such as [1, 2].")
    rooms = number_list(listed, len(listed))
    for room in rooms:
        if room in ABSENT:
            return ABSENT[int(room)]
        if room not in PRESENT:
            return f"There is no room {room:g}: they have the numbers 1 to 16."
    missing = [hint for room, hint in PRESENT.items() if room not in rooms]
    return missing[0] if missing else None


def mean_and_the_rate(answer: object) -> str | None:
    """5.2: what stands before the correct soft term, and the learning rate that undoes the shrinking."""
    factor, rate = number_list(answer, 2)

    def near(x: float, y: float) -> bool:
        return abs(x - y) <= 0.02 * y

    if near(factor, 0.9 / 1000 / (0.9 / 1000 + 0.1)):
        return (
            "The first is a share, as in (3.17), and a share hides how small the whole has become. Give the factor "
            "itself: what does the correct soft term get multiplied by?"
        )
    if near(factor, 0.09):
        return "The first number is that of ten classes, as in room 5. Here there are a thousand."
    if near(factor, 0.9):
        return "The first number is the weight as it is written. What has `mean` divided by, besides the batch size?"
    if near(factor, 900):
        return "The first number is 1000 times too large: `mean` divides by C, it does not multiply."
    if not near(factor, 0.0009):
        return f"The first number is not {factor:g}: the written weight is divided once more, by the number of classes."
    if near(rate, 1 / 0.1009):
        return None
    if near(rate, 1000) or near(rate, 1 / 0.0009):
        return (
            "The second number would repair the soft term alone. A learning rate multiplies both terms: add their two "
            "factors, then ask what brings the sum back to 1."
        )
    if near(rate, 0.1009):
        return "The second number is the sum of both factors. By what must a learning rate be multiplied to undo it?"
    return (
        f"The first is right. With {rate:g} times the rate the two factors would add up to {rate * 0.1009:.3g}, not 1."
    )


def training_step(answer: object) -> str | None:
    """5.3: a whole step, looked at from outside."""

    def right(student: nn.Module, teacher: nn.Module, batch: tuple) -> Tensor:
        """For :func:`call` alone, which reads its signature."""
        raise NotImplementedError

    def fresh() -> tuple[nn.Module, nn.Module, tuple]:
        """Made-up networks; the teacher has dropout and comes in training mode. It is always right."""
        torch.manual_seed(0)
        images = torch.randn(32, 1, 6, 6)
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(36, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))
        student = nn.Sequential(nn.Flatten(), nn.Linear(36, 10))
        return student, teacher, (images, teacher.eval()(images).argmax(-1))

    def of_training_mode() -> tuple[nn.Module, nn.Module, tuple]:
        student, teacher, batch = fresh()
        return student, teacher.train(), batch

    call(answer, right, of_training_mode())
    student, teacher, batch = of_training_mode()
    try:
        seen = check_distillation(student, teacher, batch, answer)
    except ValueError as error:
        return f"The step cannot be looked at: {error}."
    if seen:
        sentence = seen.problems.get("swapped networks") or next(iter(seen.problems.values()))
        return sentence[0].upper() + sentence[1:]
    if seen.soft_weight is None or seen.temperature is None:
        return (
            "This is no soft term at a temperature plus a hard term, or of a form that cannot be recognised. Write "
            "both terms as in `correct` at the top of this page."
        )
    if seen.soft_weight < 0.01:
        return "There is a hard term and no soft one: the loss does not depend on what the teacher answers."
    if abs(seen.soft_weight - 0.7) > 0.01 or abs(seen.hard_weight - 0.3) > 0.01:
        swapped = " Have the two changed places?" if abs(seen.soft_weight - 0.3) < 0.01 else ""
        return (
            f"Measured: soft weight {seen.soft_weight:.3g}, hard weight {seen.hard_weight:.3g}. The exercise asks for "
            f"0.7 and 0.3.{swapped}"
        )
    if abs(seen.temperature - 6) > 0.05:
        return f"The temperature is measured as {seen.temperature:.3g}. The exercise asks for 6."
    return None


def flattery(answer: object) -> str | None:
    """5.4: how much too good a count is that did the choosing."""

    def chosen(counts: np.ndarray, by: np.ndarray) -> np.ndarray:
        return counts[np.arange(len(counts)), by.argmin(axis=1)]

    def right(reported: np.ndarray, fresh: np.ndarray) -> float:
        return (chosen(fresh, reported) - chosen(reported, reported)).mean()

    wrong = {
        "You took the smallest fresh count too. Nobody can choose by counts that do not exist yet: look up the fresh "
        "count of the candidate that `reported` chose.": lambda reported, fresh: (
            fresh.min(axis=1) - reported.min(axis=1)
        ).mean(),
        "You let the fresh counts choose. The reported ones did that; it is their luck that is asked for.": (
            lambda reported, fresh: (chosen(fresh, fresh) - chosen(reported, fresh)).mean()
        ),
        "The sign is turned round: fresh minus reported, so that flattery is positive.": lambda reported, fresh: (
            -right(reported, fresh)
        ),
        "You compared with the mean fresh count of all candidates. But a choice is also worth something: compare the "
        "chosen candidate with itself.": lambda reported, fresh: (fresh.mean(axis=1) - reported.min(axis=1)).mean(),
        "You chose the largest count. These are errors: fewer are better.": lambda reported, fresh: (
            right(-reported, -fresh) * -1
        ),
        "You averaged over the studies before choosing. In each study somebody looks at that study's counts alone.": (
            lambda reported, fresh: (fresh - reported)[:, reported.mean(axis=0).argmin()].mean()
        ),
        "One number is asked for: the mean over the studies.": lambda reported, fresh: (
            chosen(fresh, reported) - chosen(reported, reported)
        ),
    }
    generator = np.random.default_rng(0)
    cases = [
        tuple(np.round(100 + 9 * generator.standard_normal((2, studies, candidates))))
        for studies, candidates in ((7, 5), (4, 12), (30, 2))
    ]
    return compare(answer, cases, right, wrong)


EXERCISES = (rooms_of_the_script, mean_and_the_rate, training_step, flattery)
