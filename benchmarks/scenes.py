"""Draw numbers as people photograph them, with MNIST's test digits as ink, and count how many are read right.

    python benchmarks/scenes.py --pictures 100 --digits 5

Prints two tables: numbers, of 2 to 9 digits on plain, lined and squared paper, of 1 to 5 digits in other scenes; and
non-digits. Half of the pictures have uneven light, noise and JPEG. A digit that is crossed out is right as ``?``. The
network is that of the package.
"""

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from console import make_parser, print_head, print_row
from drawing import Array, Range, crop, gradient, grain, overlay, paint, photograph, polyline, to_jpeg, to_picture
from mnist_lit.pictures.rejection import REJECT, refuse
from pages import Page, contrast, cross_out, doodle, fonts, print_text
from photos import load_test_digits, print_right, read

Digits = Sequence[Tensor]  # each uint8 (28, 28)
Drawing = Callable[[Digits, Generator], Array]  # (H, W, 3) in [0, 1]
GAPS = 0.15, 0.5  # least and most between two digits, in digits' heights


class Sheet(NamedTuple):
    """A number on paper; lengths in pixels."""

    mask: Array  # where the ink is, (H, W) in [0, 1]
    height: float  # of the digits
    box: tuple[int, int, int, int]  # left, top, right and bottom edge of the number
    paper: Array  # colour
    ink: Array  # colour


def _write(digits: Digits, height: float, random: Generator, gaps: Range = GAPS) -> Array:
    # Ink (H, W) in [0, 1], side by side.
    canvas: Array = np.zeros((round(1.3 * height), 0))
    gap = 0
    for digit in digits:
        box = Image.fromarray(crop(digit.numpy()))
        scale = height / 20 * random.uniform(0.92, 1.08)
        size = max(2, round(box.width * scale)), max(2, round(box.height * scale))
        ink = np.asarray(box.resize(size, Image.Resampling.BICUBIC)) / 255
        top = int(random.integers(0, round(0.08 * height) + 1))
        canvas = overlay(canvas, ink, top, max(0, canvas.shape[1] + gap))
        gap = round(height * random.uniform(*gaps))
    return canvas[: np.flatnonzero(canvas.any(axis=1))[-1] + 1]


def _lay(ink: Array, height: float, margins: Iterable[int], random: Generator, shades: Range = (0.35, 0.75)) -> Sheet:
    # The shades are the lightest of ink and the darkest of paper.
    left, right, top, bottom = margins
    box = left, top, left + ink.shape[1], top + ink.shape[0]
    colours = random.uniform(shades[1], 1, 3), random.uniform(0, shades[0], 3)
    return Sheet(np.pad(ink, ((top, bottom), (left, right))), height, box, *colours)


def _note(digits: Digits, random: Generator, margin: Range = (0.3, 2), gaps: Range = GAPS) -> Sheet:
    # 60 to 240 pixels high, with margins in digits' heights.
    height = random.uniform(60, 240)
    ink = _write(digits, height, random, gaps)
    return _lay(ink, height, [round(height * random.uniform(*margin)) for _ in range(4)], random)


def _cutting(digits: Digits, random: Generator) -> Sheet:
    # Cropped to the ink, or nearly so.
    height = random.uniform(40, 300)
    ink = crop(_write(digits, height, random), least=0.2)
    return _lay(ink, height, [round(random.choice([0, 1, 0.03 * height]))] * 4, random)


def _page(digits: Digits, random: Generator) -> Sheet:
    # A4 with 150 to 300 dots an inch, on which the digits are 40 to 90 pixels high.
    dots = random.choice([150, 200, 300])
    height, width = round(11.69 * dots), round(8.27 * dots)
    size = random.uniform(40, 90)
    ink = _write(digits, size, random)[:, : width - dots]
    right, bottom = width - ink.shape[1], height - ink.shape[0]
    top, left = int(random.integers(dots // 2, height - dots)), int(random.integers(dots // 2, right - dots // 2))
    return _lay(ink, size, (left, right - left, top, bottom - top), random, (0.3, 0.93))


def _rule(sheet: Sheet, random: Generator, is_squared: bool = False) -> tuple[Array, Array]:
    # Squares are about half as high as a digit; lines are lighter than the ink.
    period = sheet.height * (random.uniform(0.35, 0.7) if is_squared else random.uniform(0.9, 1.6))
    width = random.uniform(1, max(1.5, 0.02 * sheet.height))
    slope = np.tan(np.radians(random.uniform(-1.5, 1.5)))
    y, x = np.indices(sheet.mask.shape)
    rulings = np.zeros(sheet.mask.shape)
    for along in (y + slope * x, x - slope * y)[: 1 + is_squared]:
        distance = np.abs((along + random.uniform(0, period)) % period - period / 2)
        rulings = np.maximum(rulings, (width / 2 - distance + 0.5).clip(0, 1))
    shade = random.uniform(0.5, 0.85) * np.array([random.uniform(0.8, 1), random.uniform(0.9, 1), 1])
    return rulings, sheet.paper * shade


def _box(sheet: Sheet, random: Generator) -> tuple[Array, Array]:
    gaps = [round(sheet.height * random.uniform(0.08, 0.28)) for _ in range(4)]
    width = max(1, round(sheet.height * random.uniform(0.01, 0.04)))
    left, top, right, bottom = np.array(sheet.box) + np.multiply(gaps, (-1, -1, 1, 1)) + (0, 0, 1, 1)
    mask = np.zeros(sheet.mask.shape)
    mask[top:bottom, left:right] = 1
    mask[top + width : bottom - width, left + width : right - width] = 0
    return mask, random.uniform(0, 0.6, 3)


def _underline(sheet: Sheet, random: Generator) -> tuple[Array, Array]:
    left, _, right, bottom = sheet.box
    y = bottom + round(sheet.height * random.uniform(0.08, 0.25))
    slope = round((right - left) * random.uniform(-0.05, 0.05))
    line = Image.new("L", sheet.mask.shape[::-1])
    ImageDraw.Draw(line).line([left, y, right, y + slope], 255, round(sheet.height * random.uniform(0.03, 0.1)))
    return np.asarray(line) / 255, sheet.ink


def _frame(picture: Array, random: Generator) -> Array:
    height, width, _ = picture.shape
    thickness = max(2, round(random.uniform(0.008, 0.04) * min(height, width)))
    inside = np.zeros((height - 2 * thickness, width - 2 * thickness))
    return paint(picture, np.pad(inside, thickness, constant_values=1), random.uniform(0, 0.5, 3))


def _desk(picture: Array, random: Generator) -> Array:
    # Dark, with grain; the sheet is turned by up to 8 degrees.
    paper = to_picture(picture).convert("RGBA")
    turned = paper.rotate(random.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True)
    left, right, top, bottom = (round(max(paper.size) * random.uniform(0.1, 0.6)) for _ in range(4))
    width, height = turned.width + left + right, turned.height + top + bottom
    wood = grain(height // 6 + 2, 3, width, height, random)[..., None]
    colour = random.uniform(0.15, 0.5) * np.array([1, random.uniform(0.6, 1), random.uniform(0.4, 1)])
    desk = to_picture(colour * (1 + 0.06 * wood))
    desk.paste(turned, (left, top), turned)
    return np.asarray(desk) / 255


def _edge(picture: Array, random: Generator) -> Array:
    # The desk, at one side of the sheet or two.
    picture, margin, (y, x) = _widen(picture, 0.35)
    height, width, _ = picture.shape
    down, right = y - height / 2, x - width / 2  # from the middle
    sides = (x, down), (width - x, down), (y, right), (height - y, right)
    colour = random.uniform(0.1, 0.45, 3)
    for _ in range(random.integers(1, 3)):
        slope = np.tan(np.radians(random.uniform(-6, 6)))
        edge = margin * random.uniform(0.3, 0.85)
        distance, along = sides[random.integers(4)]
        picture = paint(picture, (edge - (distance + slope * along)).clip(0, 1), colour)
    return picture


def _thumb(picture: Array, random: Generator) -> Array:
    # In one corner.
    picture, margin, (y, x) = _widen(picture, 0.3)
    y, x = (axis - random.choice([0, side]) for axis, side in zip((y, x), picture.shape, strict=False))
    angle, radius = random.uniform(0, np.pi), margin * random.uniform(0.7, 1.1)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    thumb = (radius * (1 - np.hypot(along / (1.25 * radius), across / (0.8 * radius)))).clip(0, 1)
    return paint(picture, thumb, np.array([0.85, 0.62, 0.5]) * random.uniform(0.5, 1))


def _widen(picture: Array, part: float) -> tuple[Array, int, Any]:
    margin = round(part * max(picture.shape))
    wider = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), "edge")
    return wider, margin, np.indices(wider.shape[:2])


def _smear(picture: Array, random: Generator) -> Array:
    # What was wiped off a blackboard: clouds of chalk.
    height, width, _ = picture.shape
    clouds = 0.5 + 0.5 * grain(6, 8, width, height, random)[..., None].clip(-1, 1)
    return picture + (0.95 - picture) * random.uniform(0.1, 0.3) * clouds


def _fold(picture: Array, random: Generator) -> Array:
    # A crease, with more light on one of its sides.
    distance = gradient(picture, random) + random.uniform(-0.3, 0.3)
    shade = np.where(distance > 0, random.uniform(0.8, 0.95), 1)
    crease = np.exp(-((distance * max(picture.shape) / random.uniform(1, 3)) ** 2))
    folded: Array = picture * (shade - random.uniform(0.05, 0.2) * crease)[..., None]
    return folded


def _note_on_colour(picture: Array, random: Generator) -> Array:
    # A sticky note, with its shadow, on something of another colour.
    picture, margin, (y, x) = _widen(picture, random.uniform(0.2, 0.4))
    height, width, _ = picture.shape
    outside = np.maximum(np.maximum(margin - y, y - height + margin), np.maximum(margin - x, x - width + margin))
    shadow = np.exp(-np.maximum(outside, 0) / (0.1 * margin))[..., None]
    around = random.uniform(0.3, 1, 3) * (1 - 0.3 * shadow)
    return np.where(outside[..., None] > 0, around, picture)


def _screen(digits: Digits, random: Generator, shades: Range = (0.02, 0.2), pen: Range = (0.75, 1)) -> Sheet:
    # Light on dark.
    sheet = _note(digits, random)
    return sheet._replace(paper=random.uniform(*shades, 3), ink=random.uniform(*pen, 3))


def _labelled(digits: Digits, random: Generator) -> Sheet:
    # After a printed word.
    sheet = _note(digits, random)
    size = round(sheet.height * random.uniform(0.5, 1))
    font = ImageFont.truetype(fonts()[int(random.integers(len(fonts())))], size)
    word = str(random.choice(["Total:", "No.", "Amount", "Room", "Quantity:", "Page"]))
    _, _, right, bottom = font.getbbox(word)
    width = round(right + sheet.height * random.uniform(0.4, 0.9))
    mask = np.pad(sheet.mask, ((0, 0), (width, 0)))
    place = Image.new("L", mask.shape[::-1])
    ImageDraw.Draw(place).text((sheet.box[0] // 2, sheet.box[3] - bottom), word, 255, font)
    return sheet._replace(mask=np.maximum(mask, np.asarray(place) / 255))


def _amount(digits: Digits, random: Generator) -> Sheet:
    # With a minus before it, or a decimal point, or both.
    height = random.uniform(60, 240)
    pen = round(0.09 * height)
    ink = _write(digits, height, random, (0.25, 0.5))
    point = random.random() < 0.6 and len(digits) > 1
    if point:
        first = _write(digits[:1], height, random)
        rest = _write(digits[1:], height, random, (0.25, 0.5))
        rows = max(len(first), len(rest))
        first, rest = (np.pad(each, ((0, rows - len(each)), (0, 0))) for each in (first, rest))
        dot = np.zeros((rows, round(0.5 * height)))
        dot[-pen - round(0.05 * height) :][:pen, dot.shape[1] // 2 :][:, :pen] = 1
        ink = np.concatenate([first, dot, rest], axis=1)
    if random.random() < 0.6 or not point:
        minus = np.zeros((len(ink), round(0.75 * height)))
        minus[len(ink) // 2 :][:pen, : round(0.45 * height)] = 1
        ink = np.concatenate([minus, ink], axis=1)
    return _lay(ink, height, [round(height * random.uniform(0.3, 2)) for _ in range(4)], random)


def _cells(digits: Digits, random: Generator, rows: int = 1, frame: Range = (0.02, 0.06)) -> Sheet:
    # One digit in each cell of a comb or of a grid; other cells of the grid are empty.
    side = random.uniform(70, 200)
    columns = len(digits) if rows == 1 else rows
    cells = range(columns) if rows == 1 else sorted(random.choice(rows * rows, len(digits), replace=False).tolist())
    line = max(1, round(side * random.uniform(*frame)))
    mask = np.zeros((round(rows * side) + line, round(columns * side) + line))
    for edge in range(columns + 1):
        start = 0 if rows > 1 or random.random() < 0.5 else round(0.6 * side)
        mask[start:, round(edge * side) : round(edge * side) + line] = 1
    for edge in range(rows + 1) if rows > 1 else [rows]:
        mask[round(edge * side) : round(edge * side) + line] = 1
    for cell, digit in zip(cells, digits, strict=True):
        ink = crop(_write([digit], 0.6 * side, random), least=0.2)
        row, column = divmod(cell, columns)
        top, left = (
            round(each * side + line + (side - line - length) * random.uniform(0.3, 0.7))
            for each, length in zip((row, column), ink.shape, strict=True)
        )
        mask[top : top + len(ink), left : left + ink.shape[1]] = ink[: len(mask) - top, : mask.shape[1] - left]
    return _lay(mask, side, [round(side * random.uniform(0.2, 1)) for _ in range(4)], random)


def _meter(digits: Digits, random: Generator) -> Sheet:
    # Light digits; the drums are drawn by _drums.
    return _cells(digits, random, frame=(0.01, 0.02))._replace(ink=random.uniform(0.75, 1, 3))


def _drums(sheet: Sheet, random: Generator) -> tuple[Array, Array]:
    left, top, right, bottom = sheet.box
    mask = np.zeros(sheet.mask.shape)
    mask[top:bottom, left:right] = 1
    return mask, random.uniform(0, 0.15, 3)


def printed(number: str, random: Generator) -> list[Tensor]:
    """Return printed digits of one font, uint8 ``(40, 40)``, 20 pixels high."""
    font = ImageFont.truetype(fonts()[int(random.integers(len(fonts())))], 27)
    digits = []
    for digit in number:
        image = Image.new("L", (40, 40))
        ImageDraw.Draw(image).text((20, 20), digit, 255, font, anchor="mm")
        digits.append(torch.from_numpy(np.array(image)))
    return digits


def _sheet(
    numbers: Sequence[Digits], random: Generator, sizes: Sequence[float] = (1, 1)
) -> tuple[Page, list[tuple[int, int, int, int]], Array]:
    """Return a sheet with numbers one below the other, the boxes of these (left, top, right, bottom), and the ink."""
    height = random.uniform(50, 120)
    inks = [_write(number, height * size, random) for number, size in zip(numbers, sizes, strict=False)]
    left, top = (round(height * random.uniform(1, 2.5)) for _ in range(2))
    rows = [round(1.6 * len(ink)) for ink in inks]
    paper = random.uniform(0.75, 1, 3)
    page = Page(sum(rows) + 2 * top, max(ink.shape[1] for ink in inks) + 2 * left, paper)
    colour, boxes = random.uniform(0, 0.35, 3), []
    for ink, row in zip(inks, rows, strict=True):
        page.put(ink, top, left, colour)
        boxes.append((left, top, left + ink.shape[1], top + len(ink)))
        top += row
    return page, boxes, colour


def _halves(digits: Digits) -> list[Digits]:
    return [part for part in (digits[: (len(digits) + 1) // 2], digits[(len(digits) + 1) // 2 :]) if len(part)]


def two_sizes(digits: Digits, random: Generator) -> Array:
    """Two numbers, the second about half as high."""
    return _sheet(_halves(digits), random, (1, random.uniform(0.4, 0.6)))[0].pixels


def felt_pens(digits: Digits, random: Generator) -> Array:
    """Each digit in its own colour."""
    height = random.uniform(50, 120)
    page = Page(3 * height, (1.2 * len(digits) + 2) * height, np.full(3, random.uniform(0.85, 1)))
    for index, digit in enumerate(digits):
        ink = _write([digit], height, random)
        page.put(ink, height, (1 + 1.2 * index) * height, contrast(page.pixels[0, 0], random, 0.4))
    return page.pixels


def beside_a_doodle(digits: Digits, random: Generator) -> Array:
    """With a small drawing in the margin."""
    page, (box,), colour = _sheet([digits], random)
    drawn = doodle(random.uniform(1, 2) * (box[3] - box[1]), random)
    wide = Page(max(len(page.pixels), len(drawn) + 20), page.pixels.shape[1] + drawn.shape[1], page.pixels[0, 0])
    wide.pixels[: len(page.pixels), drawn.shape[1] :] = page.pixels
    wide.put(drawn, 10, 0.3 * box[0], colour)
    return wide.pixels


def scoreboard(digits: Digits, random: Generator) -> Array:
    """Chalk, and a line between two scores."""
    height = random.uniform(60, 150)
    page = Page(2.5 * height, (0.9 * len(digits) + 4) * height, random.uniform(0.1, 0.3, 3))
    left, chalk = height, random.uniform(0.7, 1, 3)
    for part in _halves(digits):
        if left > height:
            x = left + 0.5 * height
            page.line(np.array([(x, 0.5 * height), (x, 2.2 * height)]), 0.05 * height, chalk)
            left += height
        ink = _write(part, height, random)
        page.put(ink, 0.7 * height, left, chalk)
        left += ink.shape[1]
    return _smear(page.pixels, random)


def ledger(digits: Digits, random: Generator) -> Array:
    """Two numbers on lines and in columns."""
    page, boxes, _ = _sheet(_halves(digits), random)
    step = 1.6 * (boxes[0][3] - boxes[0][1])
    colour, (height, width) = random.uniform(0.4, 0.75, 3), page.pixels.shape[:2]
    for y in np.arange(boxes[0][1] - 0.25 * step, height, step):
        page.line(np.array([(0, y), (width, y)]), random.uniform(1, 3), colour)
    for x in np.arange(random.uniform(0.1, 0.9) * boxes[0][0], width, step * random.uniform(0.6, 2)):
        page.line(np.array([(x, 0), (x, height)]), random.uniform(1, 3), colour)
    return page.pixels


def captioned_box(digits: Digits, random: Generator) -> Array:
    """In a box of a form, with its printed caption."""
    page, (box,), _ = _sheet([digits], random)
    height = box[3] - box[1]
    left, top, right, bottom = np.array(box) + height * random.uniform(0.15, 0.35, 4) * (-1, -1, 1, 1)
    frame, corners = random.uniform(0, 0.4, 3), np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    page.line(corners, random.uniform(1, 4), frame, is_closed=True)
    caption = str(random.choice(["Postal code", "Amount due", "Customer no.", "Date of birth"]))
    font = fonts()[int(random.integers(len(fonts())))]
    page.put(print_text(caption, font, 0.3 * height), top - 0.5 * height, left, frame)
    return page.pixels


def crossed_out(digits: Digits, random: Generator) -> Array:
    """The last digit is crossed out."""
    height = random.uniform(50, 120)
    page = Page(3 * height, (1.1 * len(digits) + 2) * height, random.uniform(0.75, 1, 3))
    left, colour = height, random.uniform(0, 0.35, 3)
    for index, digit in enumerate(digits):
        ink = crop(_write([digit], height, random), 0.2)
        ink = cross_out(ink, random) if index == len(digits) - 1 else ink
        page.put(ink, 1.5 * height - len(ink) / 2, left, colour)
        left += ink.shape[1] + 0.25 * height
    return page.pixels


def show_through(digits: Digits, random: Generator) -> Array:
    """The ink of the other side shines through."""
    page, (box,), colour = _sheet([digits], random)
    back = _write(digits, random.uniform(0.8, 1.2) * (box[3] - box[1]), random)[:, ::-1]
    page.put(
        back * random.uniform(0.08, 0.2),
        box[1] + random.uniform(-0.6, 0.6) * len(back),
        box[0] * random.uniform(0.2, 2),
        colour,
    )
    return page.pixels


def in_circles(digits: Digits, random: Generator) -> Array:
    """Each digit in a circle."""
    height = random.uniform(50, 120)
    page = Page(3.4 * height, (1.9 * len(digits) + 1.5) * height, random.uniform(0.75, 1, 3))
    angles, colour = np.linspace(0, 2 * np.pi, 80), random.uniform(0, 0.35, 3)
    for index, digit in enumerate(digits):
        ink = crop(_write([digit], height, random), 0.2)
        middle = np.array([(1.6 + 1.9 * index) * height, 1.7 * height])
        page.put(ink, middle[1] - len(ink) / 2, middle[0] - ink.shape[1] / 2, colour)
        ring = middle + random.uniform(0.72, 0.85) * height * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        page.line(ring, random.uniform(1, 0.05 * height), colour)
    return page.pixels


def among_small_print(digits: Digits, random: Generator) -> Array:
    """Lines of printed text above and below."""
    page, (box,), _ = _sheet([digits], random)
    height, font = box[3] - box[1], fonts()[int(random.integers(len(fonts())))]
    size = height * random.uniform(0.15, 0.35)
    for y in (
        *np.arange(0.5 * size, box[1] - 2 * size, 1.8 * size),
        *np.arange(box[3] + size, len(page.pixels) - size, 1.8 * size),
    ):
        words = " ".join(random.choice(["sum", "of", "the", "goods", "that", "were", "sent", "by", "Room", "and"], 8))
        page.put(print_text(words, font, size), y, box[0] / 3, random.uniform(0, 0.4, 3))
    return page.pixels


def with_dashes(digits: Digits, random: Generator) -> Array:
    """A date: a dash after each two digits."""
    height = random.uniform(50, 120)
    page = Page(2.6 * height, (1.3 * len(digits) + 2) * height, random.uniform(0.75, 1, 3))
    left, colour = height, random.uniform(0, 0.35, 3)
    for start in range(0, len(digits), 2):
        if start:
            page.line(np.array([(left, 1.3 * height), (left + 0.35 * height, 1.3 * height)]), 0.09 * height, colour)
            left += 0.5 * height
        ink = _write(digits[start : start + 2], height, random)
        page.put(ink, 0.8 * height, left, colour)
        left += ink.shape[1] + 0.15 * height
    return page.pixels


@dataclass(frozen=True)
class Scene:
    """How a picture of a number is composed."""

    write: Callable[[Digits, Generator], Sheet] = _note
    mark: Callable[[Sheet, Generator], tuple[Array, Array]] | None = None  # mask and colour, below the ink
    surround: Callable[[Array, Generator], Array] = lambda picture, _: picture

    def __call__(self, digits: Digits, random: Generator) -> Array:
        """Return the picture ``(H, W, 3)`` in [0, 1] of digits."""
        sheet = self.write(digits, random)
        picture = paint(sheet.paper, *self.mark(sheet, random)) if self.mark else sheet.paper
        return self.surround(paint(picture, sheet.mask, sheet.ink), random)


plain, on_desk = Scene(), Scene(surround=_desk)
touching = Scene(partial(_note, gaps=(-0.1, 0)))  # most digits begin before the last one ends
NUMBERS: dict[str, Drawing] = {
    "plain": plain,
    "lined": Scene(mark=_rule),
    "squared": Scene(mark=partial(_rule, is_squared=True)),
}
SCENES: dict[str, Drawing] = {
    "boxed": Scene(partial(_note, margin=(0.4, 1.2)), _box),
    "underlined": Scene(mark=_underline),
    "framed": Scene(surround=_frame),
    "on desk": on_desk,
    "at the edge": Scene(surround=_edge),
    "with thumb": Scene(surround=_thumb),
    "scanned": Scene(_page),
    "cropped": Scene(_cutting),
    "blackboard": Scene(partial(_screen, shades=(0.15, 0.4)), surround=_smear),
    "dark screen": Scene(_screen),
    "grid": Scene(partial(_cells, rows=4)),
    "comb boxes": Scene(_cells),
    "meter": Scene(_meter, _drums),
    "after a word": Scene(_labelled),
    "decimals and signs": Scene(_amount),
    "sticky note": Scene(surround=_note_on_colour),
    "envelope": Scene(partial(_note, margin=(1, 4)), _rule),
    "folded": Scene(surround=_fold),
    "printed": plain,
    "touching": touching,
}
KINDS: dict[str, Drawing] = (
    NUMBERS
    | SCENES
    | {
        "two sizes": two_sizes,
        "felt pens": felt_pens,
        "doodle": beside_a_doodle,
        "scoreboard": scoreboard,
        "ledger": ledger,
        "captioned box": captioned_box,
        "crossed out": crossed_out,
        "show-through": show_through,
        "circles": in_circles,
        "small print": among_small_print,
        "dashes": with_dashes,
        "note on wood": Scene(partial(_note, margin=(0.6, 1.2)), surround=_desk),
        "sudoku": Scene(partial(_cells, rows=9)),
    }
)
PRINTED = "meter", "printed"  # kinds with printed digits


def make_picture(scene: Drawing, digits: Digits, random: Generator) -> Image.Image:
    """Draw a scene; half of them in uneven light, with noise and JPEG."""
    pixels = scene(digits, random)
    if random.random() < 0.5:
        return to_picture(pixels)
    return to_jpeg(photograph(pixels, random, (0.05, 0.35), (0.01, 0.05)), random)


def letter(character: str, font: Path) -> Image.Image:
    """Print a character."""
    picture = Image.new("RGB", (220, 260), "white")
    ImageDraw.Draw(picture).text((110, 130), character, fill="black", font=ImageFont.truetype(font, 140), anchor="mm")
    return picture


def scribble(random: Generator) -> Image.Image:
    """Draw a random line of 4 to 13 corners, half of them round."""
    corners = np.cumsum(random.normal(size=(random.integers(4, 14), 2)), axis=0)
    line = polyline(50 + 200 * (corners - corners.min(axis=0)) / np.ptp(corners, axis=0).max(), 200)
    if random.random() < 0.5:
        window = np.hanning(21) / np.hanning(21).sum()
        line = np.stack([np.convolve(np.pad(axis, 10, "edge"), window, "valid") for axis in line.T], axis=1)
    picture = Image.new("RGB", (300, 300), "white")
    ImageDraw.Draw(picture).line(line.ravel().tolist(), "black", width=int(random.integers(8, 18)), joint="curve")
    return picture


def refused(pictures: Iterable[Image.Image]) -> float:
    """Return the percentage of pictures in which every figure is refused, or none is found."""
    return 100 * float(np.mean([set(read(picture)) <= {"?"} for picture in pictures]))


if __name__ == "__main__":
    parser = make_parser(__doc__, pictures=(100, "of each kind and length"), digits=([], "lengths, in place of these"))
    options = parser.parse_args()
    images, labels = load_test_digits()
    print_head("pictures", "digits right, %", "numbers right, %")
    for name, scene in KINDS.items():
        lengths = options.digits or (range(2, 10) if name in NUMBERS else (1, 2, 3, 5))
        random = np.random.default_rng(0)
        pictures = []
        for length in lengths:
            for chosen in (random.integers(0, 10_000, length) for _ in range(options.pictures)):
                number = "".join(map(str, labels[chosen].tolist()))
                digits = printed(number, random) if name in PRINTED else list(images[chosen])
                right = f"{number[:-1]}?" if name == "crossed out" else number
                pictures.append((make_picture(scene, digits, random), right))
        # A word before a number is another number, of which the letters are refused.
        print_right(name, pictures, which=-1 if name == "after a word" else None)
    print()
    print_head("non-digits", "refused, %")
    dejavu = [font for font in fonts() if font.name.startswith("DejaVu")]
    letters = {each: refused(letter(each, font) for font in dejavu) for each in string.ascii_letters}
    print_row("letters", f"{np.mean(list(letters.values())):.1f}")
    unlike = [share for each, share in letters.items() if each not in "OoIlSsZzBbgqGDQTLYi"]
    print_row("letters that are not like a digit", f"{np.mean(unlike):.1f}")
    random = np.random.default_rng(0)
    print_row("scribbles", f"{refused(scribble(random) for _ in range(4 * options.pictures)):.1f}")
    others = images[labels != 0][: 4 * options.pictures]
    turned = (make_picture(plain, [digit], random).transpose(Image.Transpose.ROTATE_90) for digit in others)
    print_row("digits other than 0, turned by 90 degrees", f"{refused(turned):.1f}")
    reasons = refuse(images.unsqueeze(1) / 255, REJECT)
    print_row("MNIST's own digits", f"{100 * np.mean([bool(reason) for reason in reasons]):.2f}")
