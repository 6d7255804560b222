"""The page to play with, for readers without JavaScript: one digit, drawn beforehand.

    python book/experiments/playground_fallback.py

Reads what playground.py wrote, and answers one of its examples with its networks:
as a picture in book/_static/playground, and in words and numbers as a table in
book/results/playground.md. A few seconds.
"""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from playground import FOLDER, RECORD, restored
from runlog import RESULTS
from torch import Tensor

from kdutils import load_results, plots, predict_logits, soften
from kdutils.results import write_atomically

PICTURE = FOLDER / "fallback.png"
TABLE = RESULTS / "playground.md"
COLOURS = plots.MEANING | {"tiny": plots.PURPLE}


def example_and_logits(record: dict) -> tuple[dict, Tensor, dict[str, Tensor]]:
    """The first example on which the students differ, and what each network says."""
    example = next(e for e in record["examples"] if e["students_disagree"])
    grey = np.frombuffer(base64.b64decode(example["pixels"]), dtype=np.uint8)
    image = torch.tensor(grey / 255, dtype=torch.float32).reshape(1, 1, 28, 28)
    networks = record["networks"].items()
    return (
        example,
        image,
        {k: predict_logits(restored(n), image)[0] for k, n in networks},
    )


def picture(record: dict) -> bytes:
    """What the page shows, for one digit and two temperatures, drawn beforehand."""
    plots.use_book_style()
    _, image, logits = example_and_logits(record)
    figure, axes = plt.subplot_mosaic(
        [["digit", "first", "second"], ["key", "first", "second"]],
        figsize=(7.2, 5.0),
        width_ratios=(0.85, 1, 1),
        height_ratios=(0.7, 1),
    )
    axes["digit"].imshow(image[0, 0], vmin=0, vmax=1)
    axes["digit"].axis("off")
    axes["digit"].set_title("what the networks see", fontsize=9)
    for name, temperature in (
        ("first", 1.0),
        ("second", record["settings"]["temperature"]),
    ):
        shares = {key: soften(z, temperature) for key, z in logits.items()}
        bars = groups_of_bars(axes[name], shares)
        axes[name].set_title(f"soft targets at T = {temperature:g}", fontsize=9)
    axes["key"].axis("off")
    axes["key"].legend(
        bars,
        [facts(record, key, logits[key]) for key in logits],
        loc="upper left",
        borderaxespad=0,
        fontsize=8.5,
        labelspacing=0.9,
        handlelength=1,
    )
    content = io.BytesIO()
    figure.savefig(content, dpi=150, metadata={"Software": None})
    plt.close(figure)
    return content.getvalue()


def groups_of_bars(axis: Axes, shares: dict[str, Tensor]) -> list[BarContainer]:
    """A group for each digit, from the top, with a bar for each network."""
    thickness = 0.8 / len(shares)
    digits = np.arange(10)
    axis.set(yticks=digits, ylim=(9.6, -0.6), xlim=(0, 1), xlabel="probability")
    axis.grid(visible=False, axis="y")
    return [
        axis.barh(
            digits + thickness * (place - (len(shares) - 1) / 2),
            share,
            height=thickness,
            color=COLOURS[key],
        )
        for place, (key, share) in enumerate(shares.items())
    ]


def facts(record: dict, key: str, logits: Tensor) -> str:
    """A network in the picture's key."""
    network = record["networks"][key]
    return (
        f"{network['name']}: {int(logits.argmax())}\n"
        f"{network['parameters']:,} parameters,\n"
        f"{network['test_errors']['stored']} errors of {record['test_images']:,}"
    )


def percent(share: float) -> str:
    """As the page writes it: a softmax reaches neither 0 nor 1."""
    if share >= 0.9995:
        return ">\u00a099.9\u00a0%"
    return "<\u00a00.1\u00a0%" if share < 0.0005 else f"{100 * share:.1f}\u00a0%"


def table(record: dict) -> str:
    """The numbers behind the page in Markdown, and the picture in words."""
    networks = record["networks"]
    example, _, logits = example_and_logits(record)

    def row(name: str, cells: dict[str, str]) -> str:
        return f"| {name} | {' | '.join(cells[key] for key in networks)} |"

    def errors(kind: str) -> dict[str, str]:
        return {key: f"{n['test_errors'][kind]:,}" for key, n in networks.items()}

    def answers(temperature: float) -> dict[str, str]:
        says = {}
        for key in networks:
            shares = soften(logits[key], temperature)
            best = shares.topk(2)
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            says[key] = ", ".join(f"{n}:\u00a0{percent(share)}" for n, share in pairs)
        return says

    def in_8_bits() -> dict[str, str]:
        shares = {}
        for key, network in networks.items():
            weights = restored(network).state_dict()
            small = sum(weights[name].numel() for name in network["int8"])
            shares[key] = f"{100 * small / network['parameters']:.1f}\u00a0%"
        return shares

    def of(field: str) -> dict[str, str]:
        cells = {key: network[field] for key, network in networks.items()}
        return {k: f"{c:,}" if isinstance(c, int) else c for k, c in cells.items()}

    temperature = record["settings"]["temperature"]
    label = dict.fromkeys(networks, str(example["label"]))
    lines = [
        row("measured", of("name")),
        f"| :-- |{' --: |' * len(networks)}",
        row("parameters", of("parameters")),
        row("multiply–adds per image", of("multiply_adds")),
        row("bytes, float32", of("float32_bytes")),
        row("weights in 8 bits", in_8_bits()),
        row("bytes, as downloaded", of("bytes")),
        row("test errors, float32", errors("float32")),
        row("test errors, as downloaded", errors("stored")),
        row("first digit on which the students disagree: its label", label),
        row("answers to it at T = 1, the likeliest two", answers(1.0)),
        row(
            f"answers to it at T = {temperature:g}, the likeliest two",
            answers(temperature),
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Draw and write, whether it is there or not."""
    record = load_results(RECORD)
    write_atomically(PICTURE, picture(record))
    write_atomically(TABLE, table(record).encode())


if __name__ == "__main__":
    main()
