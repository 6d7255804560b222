"""Digits drawn on the playground's sheet, for the tests that play with it."""

import math

PAGE = "book/playground.html"


def arc(x, y, across, down, start, end):
    """Points on a part of an ellipse; degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / 24) for i in range(25)]
    return [(x + across * math.cos(a), y + down * math.sin(a)) for a in angles]


# One way to write each digit, on a sheet of 280 by 280.
STROKES = {
    0: [arc(140, 140, 60, 95, -90, 270)],
    1: [[(140, 45), (140, 235)]],
    2: [[*arc(140, 100, 60, 55, -170, 30), (85, 230), (205, 230)]],
    3: [[*arc(130, 90, 55, 45, -150, 90), *arc(130, 185, 62, 50, -90, 150)]],
    4: [[(110, 50), (80, 150), (200, 150)], [(170, 60), (165, 240)]],
    5: [[(195, 50), (100, 50), (95, 125), *arc(135, 175, 60, 55, -120, 150)]],
    6: [[(175, 45), *arc(140, 175, 55, 60, -160, 180)]],
    7: [[(80, 60), (200, 60), (135, 240)]],
    8: [[*arc(140, 92, 45, 45, 90, 450), *arc(140, 188, 55, 50, -90, 270)]],
    9: [[*arc(140, 95, 50, 50, 0, 360), (185, 240)]],
}


def open_playground(visit, **options):
    """The page once the networks have come, with the sheet in view."""
    page = visit(PAGE, **options)
    page.wait_for_selector("#pg-app:visible")
    bring_into_view(page)
    return page


def bring_into_view(page):
    """The whole sheet, below the bar at the top."""
    page.evaluate("scrollBy(0, document.querySelector('#pg-canvas').getBoundingClientRect().top - 120)")


def draw(page, strokes):
    box = page.locator("#pg-canvas").bounding_box()
    scale = box["width"] / 280  # on a phone the sheet is smaller
    for first, *rest in strokes:
        page.mouse.move(box["x"] + scale * first[0], box["y"] + scale * first[1])
        page.mouse.down()
        for x, y in rest:
            page.mouse.move(box["x"] + scale * x, box["y"] + scale * y)
        page.mouse.up()
    settle(page)


def settle(page):
    """Answers come with the next frame."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def answers(page) -> list[str]:
    return page.locator(".pg-answer").all_inner_texts()
