"""The figures show the numbers they are given."""

import re

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")  # before pyplot: no window, on any machine
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb

from kdutils import History, mean_interval, plots


@pytest.fixture(autouse=True)
def clean_figures():
    with matplotlib.rc_context():
        yield
    plt.close("all")


def test_importing_kdutils_changes_no_style_and_the_book_style_does():
    before = plt.rcParams["axes.spines.top"]
    plots.use_book_style()
    assert before and not plt.rcParams["axes.spines.top"]


@pytest.mark.parametrize("shape", [(7, 1, 28, 28), (7, 28, 28), (7, 1, 8, 20)])
def test_plot_images_draws_each_grey_picture_once_with_its_title(shape):
    images = np.random.default_rng(0).random(shape)
    figure = plots.plot_images(images, [f"number {i}" for i in range(7)], columns=3)
    drawn = [axis for axis in figure.axes if axis.images]
    assert len(figure.axes) == 9 and len(drawn) == 7
    for axis, image, i in zip(drawn, images, range(7), strict=True):
        assert np.array_equal(axis.images[0].get_array(), image.reshape(shape[-2:]))
        assert axis.get_title() == f"number {i}"
        assert axis.images[0].get_clim() == (0, 1)  # the same grey means the same ink in every picture


def test_plot_images_draws_colour_with_its_channels_last():
    images = torch.rand(4, 3, 6, 9, generator=torch.Generator().manual_seed(0))
    figure = plots.plot_images(images)
    for axis, image in zip(figure.axes, images, strict=True):
        assert np.array_equal(axis.images[0].get_array(), image.permute(1, 2, 0))
    assert figure.get_size_inches() == pytest.approx([4 * 0.8, 0.8 * 6 / 9])


@pytest.mark.parametrize("channels", [1, 3])
def test_plot_images_draws_bytes_as_it_draws_shares(channels):
    images = np.random.default_rng(0).integers(0, 256, (2, channels, 5, 5), dtype=np.uint8)
    for a, b in zip(plots.plot_images(images).axes, plots.plot_images(images / 255).axes, strict=True):
        assert np.array_equal(a.images[0].get_array(), b.images[0].get_array())


@pytest.mark.parametrize("shape", [(2, 2, 5, 5), (5, 5), (0, 1, 5, 5), (2, 5, 5, 3), (1, 2, 3, 4, 5)])
def test_plot_images_names_a_shape_that_is_no_picture(shape):
    with pytest.raises(ValueError, match=re.escape(f"(N, 1 or 3, H, W) or (N, H, W), got {shape}")):
        plots.plot_images(np.zeros(shape))


def test_the_name_of_the_first_chapters_stays():
    assert len(plots.plot_digits(np.zeros((3, 1, 28, 28)), columns=2).axes) == 4


def test_plot_probabilities_draws_a_bar_per_class_from_0_to_1():
    _, axis = plt.subplots()
    plots.plot_probabilities(axis, [0.7, 0.2, 0.1])
    assert [bar.get_height() for bar in axis.patches] == [0.7, 0.2, 0.1]
    assert axis.get_ylim() == (0, 1)


def test_plot_errors_by_epoch_draws_a_line_per_run_and_names_each_group_once():
    _, axis = plt.subplots()
    groups = {
        "alone": [History(val_errors=[90, 70]), History(val_errors=[95, 75])],
        "distilled": [History(val_errors=[80, 60])],
    }
    plots.plot_errors_by_epoch(axis, groups)
    assert [list(line.get_ydata()) for line in axis.lines] == [[90, 70], [95, 75], [80, 60]]
    assert all(list(line.get_xdata()) == [1, 2] for line in axis.lines)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["alone", "distilled"]
    colours = [line.get_color() for line in axis.lines]
    assert colours[0] == colours[1] != colours[2]


def test_plot_intervals_draws_the_mean_its_ends_and_every_measurement():
    _, axis = plt.subplots()
    values = {"alone": [146, 152, 139], "distilled": [74, 80, 71]}
    intervals = {name: mean_interval(v) for name, v in values.items()}
    plots.plot_intervals(axis, intervals, values)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["alone", "distilled"]
    for bars, interval, measured in zip(axis.containers, intervals.values(), values.values(), strict=True):
        centre, _, (whisker,) = bars.lines
        assert list(centre.get_xdata()) == [interval.mean]
        assert whisker.get_segments()[0][:, 0] == pytest.approx([interval.low, interval.high])
        assert any(list(line.get_xdata()) == measured for line in axis.lines)


def test_plot_matrix_writes_each_number_and_leaves_nan_empty():
    _, axis = plt.subplots()
    plots.plot_matrix(axis, [[0.25, np.nan], [0.5, 1.0]], xlabel="given", ylabel="true")
    texts = {text.get_position(): text.get_text() for text in axis.texts}
    assert texts == {(0, 0): "0.25", (0, 1): "0.50", (1, 1): "1.00"}  # position is (column, row)
    assert axis.get_xlabel() == "given" and axis.get_ylabel() == "true"


def luminance(colour) -> float:
    """As WCAG defines it."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_numbers_in_a_matrix_can_be_read_on_every_blue():
    _, axis = plt.subplots()
    shares = np.linspace(0, 1, 200)[None, :]
    plots.plot_matrix(axis, shares, xlabel="x", ylabel="y")
    for share, text in zip(shares[0], axis.texts, strict=True):
        paper = luminance(matplotlib.colormaps["Blues"](share))
        ink = luminance(matplotlib.colors.to_rgb(text.get_color()))
        contrast = (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05)
        assert contrast >= 4.5, f"{contrast:.1f} : 1 at {share:.2f}"


def test_a_colour_follows_the_meaning_of_a_name_and_not_its_place():
    meant = {"teacher": plots.TEACHER, "student, labels alone": plots.LABELS, "distilled, labels too": plots.DISTILLED}
    backwards = dict(reversed(meant.items()))
    for names in (meant, backwards):
        assert plots.colours_of(names) == {name: to_rgb(colour) for name, colour in names.items()}
    assert plots.colours_of(["label smoothing"])["label smoothing"] == to_rgb(plots.OTHERS[0])


def test_names_of_one_meaning_can_be_told_apart():
    names = ["labels", "labels, shifted", "labels, 130 epochs", "class mean", "shuffled"]
    colours = list(plots.colours_of(names).values())
    assert colours[0] == to_rgb(plots.LABELS)
    assert min(np.abs(np.subtract(a, b)).max() for i, a in enumerate(colours) for b in colours[:i]) > 0.15


def test_a_map_with_harm_in_it_is_white_at_zero_and_has_two_sides():
    _, axis = plt.subplots()
    plots.plot_matrix(axis, [[-40.0, 0.0, 30.0]], xlabel="x", ylabel="y", limits=(-60, 30))
    (image,) = axis.images
    harm, nothing, gain = image.cmap(image.norm([-40.0, 0.0, 30.0]))[:, :3]
    assert nothing.min() > 0.95 and harm[0] > harm[2] + 0.3 and gain[2] > gain[0] + 0.3
