"""The card that a social network shows for a chapter: its title above its opening picture."""

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

SIZE = (1200, 630)  # what the networks ask for
MARGIN, GAP = 60, 30
TITLE_SIZE, SITE_SIZE = 50, 26
INK, GREY = "#1a1a1a", "#5a5a5a"


def draw_card(picture: Path, title: str, site: str) -> Image.Image:
    """A white card: the name of the site, the title on as many lines as it needs, the picture as large as it fits."""
    card = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(card)
    width = SIZE[0] - 2 * MARGIN
    large, small = font(TITLE_SIZE, bold=True), font(SITE_SIZE)
    top = MARGIN // 2
    draw.text((MARGIN, top), site, fill=GREY, font=small)
    top += round(1.4 * SITE_SIZE)
    for line in wrapped(title, large, width):
        draw.text((MARGIN, top), line, fill=INK, font=large)
        top += round(1.25 * TITLE_SIZE)
    top += GAP // 2
    place = (MARGIN, top, width, SIZE[1] - top - GAP)
    paste_into(card, picture, place)
    return card


def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along, so that a card looks alike on every machine."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines that are not wider than that."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def paste_into(card: Image.Image, picture: Path, place: tuple[int, int, int, int]) -> None:
    """Put the picture into the middle of that place, as large as it fits, what is transparent on white."""
    left, top, width, height = place
    with Image.open(picture) as opened:
        drawn = opened.convert("RGBA")
    scale = min(width / drawn.width, height / drawn.height)
    size = round(scale * drawn.width), round(scale * drawn.height)
    drawn = drawn.resize(size, Image.Resampling.LANCZOS)
    card.paste(drawn, (left + (width - size[0]) // 2, top + (height - size[1]) // 2), drawn)
