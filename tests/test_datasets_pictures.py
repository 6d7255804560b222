"""datasets/pictures.py: a folder of colour pictures whose colours say nothing of their class."""

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from kdutils import load_dataset
from kdutils.datasets.pictures import make_picture_folder

COUNTS = {"train": 400, "val": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_picture_folder(tmp_path_factory.mktemp("pictures"), load_dataset("digits"), COUNTS)


def test_it_is_what_imagefolder_reads(folder):
    for part, count in COUNTS.items():
        pictures = ImageFolder(folder / part)
        assert len(pictures) == count and pictures.classes == list("0123456789")
        picture, _ = pictures[0]
        assert picture.size == (32, 32) and picture.mode == "RGB"


def test_the_same_seed_makes_the_same_files_and_another_seed_others(folder, tmp_path):
    digits = load_dataset("digits")

    def files(root):
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*.png")}

    again = make_picture_folder(tmp_path / "again", digits, COUNTS)
    assert files(again) == files(folder)
    other = make_picture_folder(tmp_path / "other", digits, {"val": 40}, seed=1)
    assert not set(files(other).values()) & set(files(folder).values())


def test_the_mean_colour_does_not_give_the_class_away(folder):
    pictures = ImageFolder(folder / "train")
    colours = np.stack([np.asarray(picture).mean(axis=(0, 1)) / 255 for picture, _ in pictures])
    labels = np.array(pictures.targets)
    means = np.stack([colours[labels == label].mean(axis=0) for label in range(10)])
    nearest = np.linalg.norm(colours[:, None] - means, axis=2).argmin(axis=1)
    assert (nearest == labels).mean() < 0.25  # guessing is right in 0.1, and these means have seen their own pictures


def test_the_digit_stands_out_of_its_ground(folder):
    spread = [np.asarray(Image.open(path)).std() for path in sorted((folder / "train").rglob("*.png"))[:50]]
    assert min(spread) > 15


def test_other_pictures_are_not_mixed_in(folder):
    with pytest.raises(ValueError, match="is not empty.*name a new folder"):
        make_picture_folder(folder, load_dataset("digits"), COUNTS)
