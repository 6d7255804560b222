"""Exercises that answer back: ``check("03-1", my_function)`` says what is wrong in a sentence that teaches."""

import re
import textwrap

import torch

from . import chapter_01, chapter_02, chapter_03, chapter_04, chapter_05, chapter_06, chapter_07, chapter_08, chapter_09
from .answers import NotYet

__all__ = ["check"]

# From "03-1" to the function that looks at its answer.
EXERCISES = {
    f"{chapter.__name__[-2:]}-{number}": look
    for chapter in (
        chapter_01,
        chapter_02,
        chapter_03,
        chapter_04,
        chapter_05,
        chapter_06,
        chapter_07,
        chapter_08,
        chapter_09,
    )
    for number, look in enumerate(chapter.EXERCISES, start=1)
}


def check(exercise: str, answer: object = ...) -> None:
    """Print "Right.", or "Not yet." and what to think about next.

    Args:
        exercise: its chapter and number, such as "03-1" for exercise 3.1.
        answer: what the exercise asks for: your function itself (not its result), a number, a list, or a letter. Left
            out, it is a place that is not filled in yet.
    """
    sentence = verdict(exercise, answer)
    print(textwrap.fill("Right." if sentence is None else f"Not yet. {sentence}", width=88))


def verdict(exercise: str, answer: object) -> str | None:
    """None for a right answer, otherwise the sentence that :func:`check` prints. Random numbers stay as they were."""
    try:
        look = EXERCISES[_name(exercise)]
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            return look(answer)
    except NotYet as sentence:
        return str(sentence)


def _name(exercise: str) -> str:
    """The name as the dictionary has it; 3.1 and 3-1 are understood too."""
    if not isinstance(exercise, str):
        raise NotYet('The name of the exercise comes first, your answer second: check("03-1", my_function).')
    parts = re.fullmatch(r"\s*0?(\d+)\s*[-.]\s*0?(\d+)\s*", exercise)
    name = f"{int(parts[1]):02d}-{int(parts[2])}" if parts else exercise
    if name not in EXERCISES:
        chapter = [known for known in EXERCISES if known[:3] == name[:3]]
        there = f"This chapter has {', '.join(chapter)}." if chapter else 'Names look like "03-1", chapters 01 to 09.'
        raise NotYet(f"There is no exercise {exercise!r}. {there}")
    return name
