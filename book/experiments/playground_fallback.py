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
from playground import FOLDER, RECORD, restored
from runlog import RESULTS
from torch import Tensor

from kdutils import load_results, plots, predict_logits, soften
from kdutils.results import write_atomically

PICTURE = FOLDER / "fallback.png"
TABLE = RESULTS / "playground.md"
COLOURS = plots.MEANING


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
    temperatures = (1.0, record["settings"]["temperature"])
    figure = plt.figure(figsize=(7.2, 5.2))
    # The digit on top, then a column for each network, a row for each temperature.
    grid = figure.add_gridspec(3, 3, height_ratios=(0.9, 1, 1))
    digit = figure.add_subplot(grid[0, 1])
    digit.imshow(image[0, 0], vmin=0, vmax=1)
    digit.axis("off")
    digit.set_title("what the networks see")
    for column, (key, network) in enumerate(record["networks"].items()):
        errors = network["test_errors"]["stored"]
        for row, temperature in enumerate(temperatures, start=1):
            axis = figure.add_subplot(grid[row, column])
            shares = soften(logits[key], temperature)
            title = f"T = {temperature:g}"
            if row == 1:
                title = (
                    f"{network['name']}: {int(logits[key].argmax())}\n"
                    f"{network['bytes']:,} bytes\n"
                    f"{errors} errors of {record['test_images']:,}\n{title}"
                )
            plots.plot_probabilities(axis, shares, colour=COLOURS[key])
            axis.set_title(title, fontsize=9)
            axis.set(xlabel="", ylabel="probability" if column == 0 else "")
            axis.tick_params(labelsize=8)
    content = io.BytesIO()
    figure.savefig(content, dpi=150, metadata={"Software": None})
    plt.close(figure)
    return content.getvalue()


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
            says[key] = ", ".join(
                f"{digit}:\u00a0{100 * share:.1f}\u00a0%" for digit, share in pairs
            )
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
        "| :-- | --: | --: | --: |",
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
