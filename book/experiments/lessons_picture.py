"""The figure "Same student, two lessons" without scripts: 20 runs, drawn beforehand.

    python book/experiments/lessons_picture.py

Reads what lessons.js measured, and writes book/_static/lessons.png. A few seconds.
"""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image
from runlog import RESULTS

from kdutils import load_results, mean_interval, plots
from kdutils.results import write_atomically

RECORD = RESULTS / "lessons.json"
PICTURE = Path(__file__).resolve().parents[1] / "_static" / "lessons.png"
REACH, CLASSES = 1.5, 3  # as in tiny.js
RUNS = 20
SKY, PINK, YELLOW = (86, 180, 233), (204, 121, 167), (240, 228, 66)  # as in lessons.js
CLASS_COLOURS = np.array([SKY, PINK, YELLOW]) / 255
TITLES = {
    "teacher": ("Teacher", plots.GREEN),
    "labels": ("Taught by labels", plots.ORANGE),
    "distilled": ("Taught by the teacher", plots.BLUE),
}


def answers(network: list[float], points: np.ndarray) -> np.ndarray:
    """Probabilities (N, 3) of a network of the figure at points (N, 2)."""
    units = np.array(network[:-CLASSES]).reshape(-1, 3 + CLASSES)
    hidden = np.tanh(points @ units[:, :2].T + units[:, 2])
    logits = hidden @ units[:, 3:] + network[-CLASSES:]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def draw_plane(axis: Axes, network: list[float], points: list, targets: list) -> None:
    """What a network answers all over the plane, and what it was told at its points."""
    line = REACH * (2 * (np.arange(160) + 0.5) / 160 - 1)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    colours = (answers(network, grid) @ CLASS_COLOURS).reshape(160, 160, 3)
    axis.imshow(colours, origin="lower", extent=(-REACH, REACH, -REACH, REACH))
    for (x, y, _), target in zip(points, targets, strict=True):
        axis.pie(
            target,
            colors=CLASS_COLOURS,
            center=(x, y),
            radius=0.11,
            startangle=90,
            counterclock=False,
            frame=True,
        )
        axis.add_patch(plt.Circle((x, y), 0.11, fill=False, edgecolor="#222"))
    axis.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[])


def draw_row(axis: Axes, row: int, values: np.ndarray, colour: str) -> None:
    """A dot for each run, and mean and 95 % interval below them."""
    interval = mean_interval(values)
    axis.plot(values, np.full(len(values), row - 0.2), ".", color=colour, alpha=0.6)
    half = [[interval.mean - interval.low], [interval.high - interval.mean]]
    axis.errorbar(
        interval.mean, row + 0.15, xerr=half, fmt="o", color=colour, capsize=4
    )


def picture(record: dict) -> bytes:
    """The three planes of one run, and the dots of the first runs."""
    plots.use_book_style()
    run = record["picture"]
    experiment = next(
        e for e in record["experiments"] if e["points"] == len(run["points"])
    )
    wrong = 100 * np.array(experiment["wrong"][:RUNS])
    labels = np.eye(CLASSES)[[label for *_, label in run["points"]]]
    told = {
        "teacher": ([], []),
        "labels": (run["points"], labels),
        "distilled": (run["points"], run["targets"]),
    }
    figure = plt.figure(figsize=(7.2, 4.6))
    grid = figure.add_gridspec(3, 3, height_ratios=(2.4, 1, 0.7))
    for column, (key, (title, colour)) in enumerate(TITLES.items()):
        axis = figure.add_subplot(grid[0, column])
        draw_plane(axis, run["networks"][key], *told[key])
        axis.set_title(title, color=colour, fontsize=11)
    errors = figure.add_subplot(grid[1, :])
    draw_row(errors, 0, wrong[:, 0], plots.ORANGE)
    draw_row(errors, 1, wrong[:, 1], plots.BLUE)
    errors.axvline(100 * record["teacher_wrong"], color=plots.GREEN, linestyle="--")
    errors.set(
        xlim=(0, 80),
        ylim=(1.5, -0.5),
        yticks=[0, 1],
        yticklabels=["by labels", "by the teacher"],
        xlabel="% of the test points wrong",
    )
    differences = figure.add_subplot(grid[2, :])
    draw_row(differences, 0, wrong[:, 1] - wrong[:, 0], plots.GREY)
    differences.axvline(0, color="black", linewidth=1)
    differences.set(
        xlim=(-40, 40),
        ylim=(0.5, -0.5),
        yticks=[0],
        yticklabels=["difference"],
        xlabel="points; left of 0 the teacher helps",
    )
    content, small = io.BytesIO(), io.BytesIO()
    figure.savefig(content, dpi=200)
    plt.close(figure)
    # 256 colours are enough for the blends, and make a third of the file.
    Image.open(content).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    return small.getvalue()


def main() -> None:
    """Draw and write, whether it is there or not."""
    write_atomically(PICTURE, picture(load_results(RECORD)))


if __name__ == "__main__":
    main()
