"""The book's figures. Everything here takes arrays or a History; nothing here trains."""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from .config import History
from .evaluate import Interval

# Okabe and Ito's palette: distinct also to readers who do not tell red from green.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#666666",
)
# What a colour means, in every chapter and in the figures to play with. Controls, and whatever has no meaning of its
# own, get the others.
TEACHER, LABELS, DISTILLED = GREEN, ORANGE, BLUE
MEANING = {"teacher": TEACHER, "labels": LABELS, "distilled": DISTILLED, "soft": DISTILLED}
GAIN, HARM = BLUE, RED  # fewer errors than what is compared with, and more
OTHERS = (PURPLE, SKY, RED, GREY, "black")


def use_book_style() -> None:
    """White background, thin frame, the palette above: readable on a light and on a dark page.

    In a notebook the pictures get twice as many pixels each way as they are shown with, for dense screens.
    """
    if "ipykernel" in sys.modules:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.6),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=OTHERS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.alpha": 0.25,
            "font.size": 10,
            "legend.frameon": False,
            "image.cmap": "gray_r",
        }
    )


def colours_of(names: Iterable[str]) -> dict[str, tuple[float, float, float]]:
    """A colour for each name, by the first of the words *teacher*, *labels*, *distilled* and *soft* in it.

    Names of one meaning get its full colour, a darker and a paler one, in this order and again; names without any get
    colours that mean nothing.
    """
    found, counts = {}, Counter()
    for name in dict.fromkeys(names):
        word = re.search(rf"\b({'|'.join(MEANING)})\b", name)
        meant = MEANING[word[0]] if word else None
        place = counts[meant]
        counts[meant] += 1
        found[name] = shade(meant, (0.0, -0.45, 0.45)[place % 3]) if meant else to_rgb(OTHERS[place % len(OTHERS)])
    return found


def shade(colour: str, towards_white: float) -> tuple[float, float, float]:
    """The colour mixed with white, or with black where the share is negative."""
    end = 1.0 if towards_white > 0 else 0.0
    share = abs(towards_white)
    return tuple((1 - share) * part + share * end for part in to_rgb(colour))


def plot_images(images: Sequence, titles: Sequence[str] = (), *, columns: int = 10) -> Figure:
    """A grid of pictures of one size, with a short title over each.

    Args:
        images: ``(N, 1, H, W)`` or ``(N, H, W)`` for grey, ``(N, 3, H, W)`` for colour; numbers in [0, 1], or bytes.
        titles: one for each of the first pictures.
        columns: pictures in a row.

    Raises:
        ValueError: another shape, or no picture.
    """
    pictures = np.asarray(images)
    if pictures.ndim == 3:
        pictures = pictures[:, None]
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or 0 in pictures.shape:
        raise ValueError(f"images must be (N, 1 or 3, H, W) or (N, H, W), got {np.shape(images)}")
    if pictures.dtype == np.uint8:
        pictures = pictures / 255
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    height = 0.8 * (pictures.shape[2] / pictures.shape[3])
    figure, axes = plt.subplots(rows, columns, figsize=(0.8 * columns, rows * (height + 0.17 * lines)), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for position, (axis, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        # One channel is drawn by the palette, three are the colour themselves.
        axis.imshow(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0), vmin=0, vmax=1)
        if position < len(titles):
            axis.set_title(titles[position], fontsize=8)
    return figure


plot_digits = plot_images  # the name by which the first chapters know it


def plot_probabilities(axis: Axes, probabilities: Sequence[float], *, colour: str = TEACHER, title: str = "") -> None:
    """One soft target as bars, a bar per class, by default a teacher's; the vertical axis always runs from 0 to 1."""
    values = np.asarray(probabilities)
    axis.bar(np.arange(len(values)), values, color=colour)
    axis.set(xticks=np.arange(len(values)), ylim=(0, 1), title=title, xlabel="class", ylabel="probability")


def plot_intervals(axis: Axes, intervals: dict[str, Interval], points: dict[str, Sequence[float]]) -> None:
    """A row per name: its mean and interval, and every single measurement behind it as a small dot."""
    colours = colours_of(intervals)
    for row, (name, interval) in enumerate(intervals.items()):
        colour = colours[name]
        measured = np.asarray(points[name], dtype=float)
        axis.plot(measured, np.full(len(measured), row - 0.18), ".", color=colour, alpha=0.6)
        half = [[interval.mean - interval.low], [interval.high - interval.mean]]
        axis.errorbar(interval.mean, row, xerr=half, fmt="o", color=colour, capsize=4)
    axis.set_yticks(range(len(intervals)), list(intervals))
    axis.set_ylim(len(intervals) - 0.5, -0.5)


def plot_matrix(
    axis: Axes,
    matrix: Sequence[Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    digits: int = 2,
    limits: tuple[float, float] | None = None,
) -> None:
    """A table of numbers as a heat map, each number written into its cell; nan cells stay empty.

    ``limits`` are the values of the lightest and the darkest colour; by default 0 and the largest entry. Where the
    lower one is negative the map has two sides: blue above 0, red below, white at 0.
    """
    values = np.asarray(matrix, dtype=float)
    low, high = limits or (0.0, float(np.nanmax(values)))
    scale = {"vmin": low, "vmax": high}
    if low < 0:
        scale = {"norm": TwoSlopeNorm(0.0, low, high)}
    image = axis.imshow(values, cmap="RdBu" if low < 0 else "Blues", aspect="auto", **scale)
    for row, column in np.ndindex(values.shape):
        if np.isfinite(values[row, column]):
            red, green, blue, _ = image.cmap(image.norm(values[row, column]))
            # Where white and black can be read equally well.
            ink = "white" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.18 else "black"
            text = f"{round(values[row, column], digits) + 0.0:.{digits}f}"  # no "-0"
            axis.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    axis.set(xlabel=xlabel, ylabel=ylabel, xticks=range(values.shape[1]), yticks=range(values.shape[0]))
    axis.grid(False)


def plot_errors_by_epoch(axis: Axes, groups: dict[str, Sequence[History]]) -> None:
    """Validation errors by epoch on a logarithmic axis: a colour for each named group, a thin line for each run."""
    colours = colours_of(groups)
    for name, histories in groups.items():
        for number, history in enumerate(histories):
            epochs = np.arange(1, len(history.val_errors) + 1)
            label = name if number == 0 else None  # one entry in the legend for each group
            axis.plot(epochs, history.val_errors, color=colours[name], alpha=0.7, label=label)
    axis.set(xlabel="epoch", ylabel="validation errors", yscale="log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.legend()
