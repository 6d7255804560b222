"""Figures to play with: one HTML output with its data, a still picture, and a script that needs nothing else.

The same output works on the site, in JupyterLab and in Colab, because everything it needs is in it. Where no script
runs, the still picture stays.
"""

import base64
import io
import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor

from . import plots
from .losses import soften

STILL_TEMPERATURES = (1.0, 4.0, 20.0)
COMPUTES = {"loss": ["descent.js"]}  # modules that only one figure needs


def play_temperature(
    images: Tensor, logits: Tensor, labels: Tensor, names: Sequence[str], *, start: float = 4.0
) -> None:
    """Show soft targets that follow a temperature slider, for a choice of images.

    Args:
        images: ``(N, 1, 28, 28)`` in [0, 1].
        logits: ``(N, C)``, a teacher's; row i belongs to image i.
        labels: ``(N,)`` class of each image.
        names: what to call each image.
        start: temperature at the beginning.
    """
    if not len(images) == len(logits) == len(labels) == len(names):
        raise ValueError(
            "as many images as logits, labels and names are needed, got"
            f" {len(images)}, {len(logits)}, {len(labels)} and {len(names)}"
        )
    digits = [
        {
            "name": name,
            "label": int(label),
            "logits": [round(float(z), 4) for z in row],
            "pixels": base64.b64encode((255 * image).round().byte().cpu().numpy().tobytes()).decode(),
        }
        for name, label, row, image in zip(names, labels, logits, images, strict=True)
    ]
    figure, axes = plt.subplots(1, 4, figsize=(7, 2.2), width_ratios=[0.8, 1, 1, 1])
    axes[0].imshow(images[0, 0].cpu().numpy(), vmin=0, vmax=1)
    axes[0].axis("off")
    facts = []
    for axis, temperature in zip(axes[1:], STILL_TEMPERATURES, strict=True):
        target = soften(logits[0].double(), temperature).cpu()
        nats = float(torch.special.entr(target).sum())
        plots.plot_probabilities(axis, target.tolist(), title=f"T = {temperature:g}, {nats:.2f} nats")
        axis.set(ylabel="", xlabel="")
        facts.append(f"{target.max():.0%} for class {int(target.argmax())} at T = {temperature:g}")
    alt = f"{names[0]}, and the teacher's soft target at three temperatures: {', '.join(facts)}."
    _show("temperature", {"digits": digits, "start": start}, figure, alt)


def play_loss(
    classes: Sequence[str], label: int, situations: dict[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """Show logits of a teacher and a student as handles, with the losses and the push of their gradients.

    Args:
        classes: a name for each of the C classes.
        label: the true class, an index.
        situations: for each starting point its name, the teacher's logits and the student's, C numbers each.
    """
    for name, (teacher, student) in situations.items():
        if not len(teacher) == len(student) == len(classes):
            raise ValueError(f"situation {name!r} needs {len(classes)} logits for each network, one for each class")
    first, (teacher, student) = next(iter(situations.items()))
    p, q = (soften(torch.tensor(values, dtype=torch.float64)).numpy() for values in (teacher, student))
    divergence = float((p * np.log(p / q)).sum())
    figure, axis = plt.subplots(figsize=(5.5, 2.6))
    places = np.arange(len(classes))
    axis.bar(places - 0.18, p, width=0.34, color=plots.TEACHER, label="teacher P")
    axis.bar(places + 0.18, q, width=0.34, color=plots.DISTILLED, label="student Q")
    for place, start, push in zip(places, q, p - q, strict=True):
        if abs(push) > 0.01:
            axis.annotate(
                "", (place + 0.18, start + push), (place + 0.18, start), arrowprops={"arrowstyle": "->", "linewidth": 2}
            )
    axis.set(xticks=places, xticklabels=classes, ylim=(0, 1), ylabel="probability")
    axis.set_title(f"T = 1, KL(P ‖ Q) = {divergence:.2f} nats; arrows: −gradient for the logit", fontsize=10)
    axis.legend()
    alt = (
        f"A student that {first}: bars of teacher and student for {', '.join(classes)}, with arrows on the student's "
        f"bars that show the push of the gradient. KL is {divergence:.2f} nats."
    )
    data = {
        "classes": list(classes),
        "label": label,
        "situations": [{"name": n, "teacher": list(t), "student": list(s)} for n, (t, s) in situations.items()],
    }
    _show("loss", data, figure, alt)


def page_scripts() -> Path:
    """The folder of the book's JavaScript, in a checkout or in an installed package."""
    package = Path(__file__).parent
    checkout = package.parent / "book" / "_static" / "js"
    return checkout if checkout.is_dir() else package / "pages"


def one_script(*names: str) -> str:
    """Modules as one classic script, each after those that it imports: notebooks show no module beside a page."""
    texts = [(page_scripts() / name).read_text(encoding="utf-8") for name in names]
    code = "\n".join(re.sub(r"^import [^;]*;\n|^export (?=\w)", "", text, flags=re.MULTILINE) for text in texts)
    return f"(() => {{\n{code}}})();"


def figure_script(kind: str) -> str:
    """All that the figure ``kind`` runs."""
    return one_script("probability.js", "figure.js", "setting.js", *COMPUTES.get(kind, ()), f"{kind}.js")


def _show(kind: str, data: dict[str, Any], still: Figure, alt: str) -> None:
    """Display the figure ``kind``; its still picture is there until the script has replaced it."""
    picture = io.BytesIO()
    still.savefig(picture, format="png")
    width, height = (still.get_size_inches() * still.dpi).round().astype(int)
    plt.close(still)
    encoded = base64.b64encode(picture.getvalue()).decode()
    html = (
        f"<style>\n{(page_scripts() / 'figure.css').read_text(encoding='utf-8')}</style>\n"
        # The anchor to which the link to a setting leads.
        f'<div class="kd-play" data-figure="{kind}" id="figure-{kind}">\n'
        f'<img class="kd-still" alt="{escape(alt)}" width="{width}" height="{height}"'
        f' src="data:image/png;base64,{encoded}">\n'
        # "<" could end the element early.
        f'<script type="application/json">{json.dumps(data).replace("<", chr(92) + "u003c")}</script>\n'
        "</div>\n"
        f"<script>\n{figure_script(kind)}\n</script>"
    )
    display({"text/html": html, "text/plain": alt}, raw=True)
