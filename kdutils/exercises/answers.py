"""Reading what the reader wrote: functions, numbers, letters. Whatever is wrong becomes a sentence."""

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class NotYet(Exception):
    """An answer that cannot be judged; its text is the sentence for the reader."""


def compare(
    answer: object, cases: Sequence[tuple], right: Callable[..., Any], wrong: dict[str, Callable[..., Any]]
) -> str | None:
    """Call the reader's function on each case, and ``right`` beside it.

    Where they differ: the hint of the first function in ``wrong`` that gives what the reader's gave. If there is none:
    what was expected and what was found. ``right`` and all in ``wrong`` take the same arguments.
    """
    for inputs in cases:
        expected = as_numbers(right(*inputs))
        found = as_numbers(call(answer, right, copy.deepcopy(inputs)))
        if same(found, expected):
            continue
        for hint, mistake in wrong.items():
            if same(found, as_numbers(mistake(*inputs))):
                return hint
        given = f"For {describe(right, inputs)} the answer"
        if found.shape != expected.shape:
            return f"{given} should be {_form(expected)}; yours is {_form(found)}."
        if expected.numel() <= 6:
            return f"{given} is {shown(expected)}; your function gives {shown(found)}."
        place = torch.unravel_index((found - expected).abs().nan_to_num(torch.inf).argmax(), expected.shape)
        where = [int(index) for index in place]
        return f"{given} has {expected[place]:.4g} at {where}; your function gives {found[place]:.4g} there."
    return None


def call(answer: object, right: Callable[..., Any], inputs: tuple) -> Any:
    """What the reader's function returns; ``right`` only tells the names of the arguments."""
    if answer is None or answer is ...:
        raise NotYet("There is no answer yet: fill the function in, then pass it.")
    takes = tuple(inspect.signature(right).parameters)
    if not callable(answer):
        raise NotYet(
            f"This exercise asks for a function of {', '.join(takes)}; your answer is of type {type(answer).__name__}. "
            "Pass the function itself, without calling it: write f, and not f(...)."
        )
    try:
        inspect.signature(answer).bind(*inputs)
    except TypeError:
        wanted = f"{len(takes)} argument{'s' * (len(takes) > 1)}, {', '.join(takes)}"
        raise NotYet(f"Your function should take {wanted}; it takes {inspect.signature(answer)}.") from None
    except ValueError:  # a builtin that does not tell what it takes
        pass
    given = describe(right, inputs)
    try:
        value = answer(*inputs)
    except NotYet:
        raise
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0].rstrip(".")
        raise NotYet(f"For {given} your function raised {type(error).__name__}: {first_line}.") from None
    if value is None or value is ...:
        raise NotYet("Your function returns nothing. Is its body filled in, and does it end with `return`?")
    return value


def as_numbers(value: Any) -> Tensor:
    """A number, a tensor, an array, or a list of them: float64, without dimensions of size 1."""
    try:
        if isinstance(value, (list, tuple)):
            return torch.stack([as_numbers(entry) for entry in value]).squeeze()
        return torch.as_tensor(value).detach().cpu().double().squeeze()
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"A number or a tensor is expected; this is of type {type(value).__name__}.") from None


def number_list(answer: object, count: int) -> list[float]:
    """The reader's numbers, worked out on paper."""
    listed = [answer] if count == 1 and not isinstance(answer, (list, tuple)) else answer
    wanted = "one number" if count == 1 else f"a list of {count} numbers"
    if answer is ...:
        raise NotYet(f"There is no answer yet: fill in {wanted}.")
    if callable(listed) or not hasattr(listed, "__len__") or isinstance(listed, (str, dict, set)):
        raise NotYet(f"This exercise asks for {wanted}; your answer is of type {type(answer).__name__}.")
    if any(entry is ... or entry is None for entry in listed):
        raise NotYet("There is still a place to fill in.")
    found = as_numbers(list(listed)).reshape(-1).tolist()
    if len(found) != count:
        raise NotYet(f"This exercise asks for {wanted}; you gave {len(found)}.")
    return found


def choose(answer: object, right: str, hints: dict[str, str]) -> str | None:
    """One letter out of those offered; each wrong one has its hint."""
    letters = sorted([right, *hints])
    letter = answer.strip(" ().").lower() if isinstance(answer, str) else None
    if letter == right:
        return None
    if letter in hints:
        return hints[letter]
    return f"Answer with one letter: {', '.join(map(repr, letters[:-1]))} or {letters[-1]!r}."


def same(found: Tensor, expected: Tensor) -> bool:
    """Equal up to what float32 rounds away."""
    if found.shape != expected.shape:
        return False
    size = expected.nan_to_num(0, 0, 0).abs().amax() if expected.numel() else 0
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-6 + 1e-5 * float(size), equal_nan=True)


def describe(right: Callable[..., Any], inputs: tuple) -> str:
    """The arguments in words, such as "s of shape (5, 4), T = 2"."""
    named = zip(inspect.signature(right).parameters, inputs, strict=True)
    return ", ".join(f"{name} {shown(value, of='=')}" for name, value in named)


def shown(value: Any, of: str = "") -> str:
    """A value, short enough for a sentence; after ``of`` if there is room for it, else its shape or type."""
    if isinstance(value, (Tensor, np.ndarray)):
        if math.prod(value.shape) > 6:
            return f"of shape {tuple(value.shape)}"
        value = value.tolist()
    if isinstance(value, float):
        text = f"{value:.4g}"
    elif isinstance(value, (list, tuple)):
        text = "[" + ", ".join(shown(entry) for entry in value) + "]"
    elif isinstance(value, (int, str, dict)):
        text = repr(value)
    else:
        return f"a {type(value).__name__}"
    return f"{of} {text}".strip() if len(text) < 200 else f"of {len(value)} entries"


def _form(value: Tensor) -> str:
    return f"of shape {tuple(value.shape)}" if value.dim() else "a single number"
