"""Draw numbers as people photograph them, with MNIST's test digits as ink, and count how many are read right.

    python benchmarks/scenes.py --pictures 100 --digits 5

Prints two tables: numbers, of 2 to 9 digits on plain, lined and squared paper, of 1 to 5 digits in other scenes; and
non-digits. Half of the pictures have uneven light, noise and JPEG. A digit that is crossed out is right as ``?``. The
network is that of the package.

A scene is made in steps. Digits, and signs among them, are placed; this decides how large the page is. Then one step
after the other draws on the page, among them ``write``, which draws the digits.
"""

import string
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from console import make_parser, print_head, print_row
from drawing import Array, Range, crop, gradient, grain, photograph, polyline, to_jpeg, to_picture
from mnist_lit.pictures.rejection import REJECT, refuse
from pages import Page, contrast, cross_out, doodle, draw_over, fonts, print_text, rectangle, ring
from photos import load_test_digits, print_right, read


class Placed(NamedTuple):
    """Ink ``(h, w)`` in [0, 1], and how many pixels are above it and left of it."""

    ink: Array
    top: float
    left: float


class Sheet(Page):
    """A page for a number; lengths are in pixels."""

    def __init__(self, placed: Sequence[Placed], height: float, margins: Array, paper: Array, pen: Array) -> None:
        self.placed, self.height = placed, height  # the second is that of the digits
        self.paper, self.pen = paper, pen  # colours
        edges = np.array([(left, top, left + ink.shape[1], top + len(ink)) for ink, top, left in placed])
        low, high = edges.min(axis=0)[:2], edges.max(axis=0)[2:]
        self.corner = margins[:2] - low  # left and top: where the digits are placed from
        self.box = np.concatenate([margins[:2], margins[:2] + high - low])  # left, top, right and bottom of the number
        super().__init__(self.box[3] + margins[3], self.box[2] + margins[2], paper)

    def pad(self, left: int, top: int, right: int, bottom: int) -> None:
        """Make it larger: its edges are continued."""
        self.pixels = np.pad(self.pixels, ((top, bottom), (left, right), (0, 0)), "edge")
        self.corner, self.box = np.add(self.corner, (left, top)), np.add(self.box, (left, top, left, top))

    def widen(self, part: float) -> tuple[int, Array, Array]:
        """Pad it by this part of its longer side; return the pixels of that, and each pixel's y and x."""
        margin = round(part * max(self.pixels.shape))
        self.pad(margin, margin, margin, margin)
        indices: Array = np.indices(self.pixels.shape[:2])
        return margin, indices[0], indices[1]


Digits = Sequence[Tensor]  # each uint8 (h, w), 20 pixels high
Drawing = Callable[[Digits, Generator], Array]  # (H, W, 3) in [0, 1]
Arrangement = Callable[[Digits, float, Generator], list[Placed]]  # the digits' height is in pixels
Step = Callable[[Sheet, Generator], None]
Part = tuple[float, Array]  # of a row: pixels between it and what is left of it, and ink
Signs = Callable[[list[Part], float, Generator], None]  # the digits' height is in pixels


def digit_ink(digit: Tensor, height: float, random: Generator) -> Array:
    """Return the ink of a digit, float ``(h, w)`` in [0, 1], about so many pixels high."""
    box = Image.fromarray(crop(digit.numpy()))
    scale = height / 20 * random.uniform(0.92, 1.08)
    size = max(2, round(box.width * scale)), max(2, round(box.height * scale))
    return crop(np.asarray(box.resize(size, Image.Resampling.BICUBIC)) / 255, 0.2)


def bar(height: float, width: float) -> Array:
    """Return ink all over ``(h, w)``."""
    return np.ones((max(1, round(height)), max(1, round(width))))


# How digits are placed


def row(
    digits: Digits, height: float, random: Generator, gaps: Range = (0.15, 0.5), signs: Signs | None = None
) -> list[Placed]:
    """Place digits, and signs among them, side by side; the gaps are in digits' heights."""
    spaces = height * random.uniform(*gaps, len(digits))
    spaces[:1] = 0
    parts = [(space, digit_ink(digit, height, random)) for space, digit in zip(spaces, digits, strict=True)]
    if signs:
        signs(parts, height, random)
    placed, right = [], 0.0
    for space, ink in parts:
        placed.append(Placed(ink, random.uniform(0, 0.08) * height - len(ink) / 2, right + space))
        right += space + ink.shape[1]
    return placed


def two_lines(digits: Digits, height: float, random: Generator, sizes: Range = (1, 1)) -> list[Placed]:
    """Place two numbers, one below the other; the second is so many times as high."""
    half, size = (len(digits) + 1) // 2, random.uniform(*sizes)
    second = row(digits[half:], size * height, random)
    down = (1.1 + size / 2) * height
    return row(digits[:half], height, random) + [each._replace(top=each.top + down) for each in second]


def cells(digits: Digits, height: float, random: Generator, rows: int = 1, pens: Range = (0.02, 0.06)) -> list[Placed]:
    """Place a digit in each cell of a comb, or in some of a grid; the height is that of a cell."""
    columns = len(digits) if rows == 1 else rows
    chosen = np.sort(random.choice(rows * columns, len(digits), replace=False))
    pen = max(1, random.uniform(*pens) * height)
    placed = []
    for cell, digit in zip(chosen.tolist(), digits, strict=True):
        ink = digit_ink(digit, 0.6 * height, random)
        free = np.subtract(height - pen, ink.shape)
        corner = np.multiply(divmod(cell, columns), height) + pen + random.uniform(0.3, 0.7, 2) * free
        placed.append(Placed(ink, *corner))
    for edge in range(columns + 1):
        top = 0 if rows > 1 or random.random() < 0.5 else 0.6 * height
        placed.append(Placed(bar(rows * height - top, pen), top, edge * height))
    for edge in range(rows + 1) if rows > 1 else [1]:
        placed.append(Placed(bar(pen, columns * height + pen), edge * height, 0))
    return placed


# Signs among the digits of a row


def insert(parts: list[Part], index: int, ink: Array, space: float) -> None:
    """Put a sign before a part, with the same space on both sides."""
    parts[index : index + 1] = [(space, ink), (space, parts[index][1])]


def word(parts: list[Part], height: float, random: Generator) -> None:
    """Put a printed word before the number, both with their feet on one line."""
    text = str(random.choice(["Total:", "No.", "Amount", "Room", "Quantity:", "Page"]))
    ink = print_text(text, random.choice(fonts()), random.uniform(0.35, 0.75) * height)
    above = max(0, round(height) - len(ink))
    insert(parts, 0, np.pad(ink, ((above, 0), (0, 0))), random.uniform(0.55, 1.9) * height)


def point_and_minus(parts: list[Part], height: float, random: Generator) -> None:
    """Put a decimal point behind the first digit, or a minus before it, or both."""
    pen = 0.09 * height
    has_point = random.random() < 0.6 and len(parts) > 1
    if has_point:
        insert(parts, 1, np.pad(bar(pen, pen), ((round(0.85 * height), 0), (0, 0))), 0.2 * height)
    if random.random() < 0.6 or not has_point:
        insert(parts, 0, bar(pen, 0.45 * height), 0.3 * height)


def dashes(parts: list[Part], height: float, random: Generator) -> None:
    """Put a dash after each two digits, as in a date."""
    for index in reversed(range(2, len(parts), 2)):
        insert(parts, index, bar(0.09 * height, 0.35 * height), 0.15 * height)


def divide(parts: list[Part], height: float, random: Generator) -> None:
    """Put an upright line between two scores."""
    if len(parts) > 1:
        insert(parts, (len(parts) + 1) // 2, bar(1.7 * height, 0.05 * height), 0.5 * height)


def cross_out_last(parts: list[Part], height: float, random: Generator) -> None:
    """Cross out the last digit."""
    parts[-1] = parts[-1][0], cross_out(parts[-1][1], random)


def encircle(parts: list[Part], height: float, random: Generator) -> None:
    """Draw a circle around each digit."""
    for index, (space, ink) in enumerate(parts):
        circle = ring(ink.shape[1] / 2, len(ink) / 2, random.uniform(0.72, 0.85) * height)
        parts[index] = space, draw_over(ink, [circle], [random.uniform(1, 0.05 * height)])


# Steps in which a page is drawn


def write(page: Sheet, random: Generator, in_colours: bool = False) -> None:
    """Draw the number, or each digit in a colour of its own."""
    for ink, top, left in page.placed:
        colour = contrast(page.paper, random, 0.4) if in_colours else page.pen
        page.put(ink, page.corner[1] + top, page.corner[0] + left, colour)


def rule(page: Sheet, random: Generator, periods: Range = (0.9, 1.6), is_squared: bool = False) -> None:
    """Rule lines, or squares, that are lighter than the ink; the periods are in digits' heights."""
    period, slope = random.uniform(*periods) * page.height, np.tan(np.radians(random.uniform(-1.5, 1.5)))
    pen = random.uniform(1, max(1.5, 0.02 * page.height))
    colour = page.paper * random.uniform(0.5, 0.85) * (random.uniform(0.8, 1), random.uniform(0.9, 1), 1)
    for axis in range(1 + is_squared):
        places = np.arange(random.uniform(-4, -3) * period, 1.2 * max(page.pixels.shape), period)
        page.rule(places, -slope if axis else slope, pen, colour, axis)


def rule_columns(page: Sheet, random: Generator) -> None:
    """Rule the lines that two numbers stand on, and columns."""
    step, (left, top, _, _) = 1.6 * page.height, page.box
    height, width, _ = page.pixels.shape
    lines = np.arange(top - 0.25 * step, height, step)
    columns = np.arange(random.uniform(0.1, 0.9) * left, width, random.uniform(0.6, 2) * step)
    colour = random.uniform(0.4, 0.75, 3)
    for axis, places in enumerate((lines, columns)):
        page.rule(places, 0, random.uniform(1, 3), colour, axis)


def box(page: Sheet, random: Generator, captions: Sequence[str] = ()) -> None:
    """Draw a box around the number, with a printed caption."""
    left, top, right, bottom = page.box + random.uniform(0.08, 0.28, 4) * page.height * (-1, -1, 1, 1)
    colour = random.uniform(0, 0.6, 3)
    page.draw([rectangle(left, top, right, bottom)], random.uniform(0.01, 0.04) * page.height, colour)
    if captions:
        caption = print_text(str(random.choice(captions)), random.choice(fonts()), 0.3 * page.height)
        page.put(caption, top - 0.5 * page.height, left, colour)


def underline(page: Sheet, random: Generator) -> None:
    """Draw a line below the number."""
    left, _, right, bottom = page.box
    y = bottom + random.uniform(-0.15, 0.25) * page.height
    slope = random.uniform(-0.05, 0.05) * (right - left)
    page.draw([[(left, y), (right, y + slope)]], random.uniform(0.03, 0.1) * page.height, page.pen)


def drums(page: Sheet, random: Generator) -> None:
    """Fill the box of the number with a dark colour."""
    left, top, right, bottom = page.box
    page.put(bar(bottom - top, right - left), top, left, random.uniform(0, 0.15, 3))


def frame(page: Sheet, random: Generator) -> None:
    """Draw a line along the edges of the page."""
    height, width, _ = page.pixels.shape
    pen = max(2, random.uniform(0.008, 0.04) * min(height, width))
    page.draw([rectangle(0, 0, width - 1, height - 1)], 2 * pen, random.uniform(0, 0.5, 3))


def doodle_beside(page: Sheet, random: Generator) -> None:
    """Draw something small in the margin."""
    ink = doodle(random.uniform(1, 2) * page.height, random)
    left = 0.3 * page.box[0]
    page.pad(ink.shape[1], 0, 0, max(0, len(ink) + 20 - len(page.pixels)))
    page.put(ink, 10, left, page.pen)


def show_through(page: Sheet, random: Generator) -> None:
    """Let the same number shine through from the other side."""
    back = Sheet(page.placed, page.height, np.zeros(4), np.zeros(3), np.ones(3))
    write(back, random)
    size, strength = random.uniform(0.8, 1.2), random.uniform(0.08, 0.2)
    ink = strength * cv2.resize(back.pixels[:, ::-1, 0], None, fx=size, fy=size)
    left, top, _, _ = page.box
    page.put(ink, top + random.uniform(-0.6, 0.6) * len(ink), random.uniform(0.2, 2) * left, page.pen)


def small_print(page: Sheet, random: Generator) -> None:
    """Print lines of text above and below the number."""
    font, size = random.choice(fonts()), random.uniform(0.15, 0.35) * page.height
    left, top, _, bottom = page.box
    above, below = (0.5 * size, top - 2 * size), (bottom + size, len(page.pixels) - size)
    for y in np.append(np.arange(*above, 1.8 * size), np.arange(*below, 1.8 * size)):
        words = random.choice(["sum", "of", "the", "goods", "that", "were", "sent", "by", "Room", "and"], 8)
        page.put(print_text(" ".join(words), font, size), y, left / 3, random.uniform(0, 0.4, 3))


def scan(page: Sheet, random: Generator) -> None:
    """Make it A4, with 150 to 300 dots an inch."""
    size = (random.choice([150, 200, 300]) * np.array([8.27, 11.69])).astype(int)
    more = np.maximum(size - page.pixels.shape[1::-1], 0)
    left, top = random.integers(more + 1)
    page.pad(left, top, *(more - (left, top)))


def crop_nearly(page: Sheet, random: Generator) -> None:
    """Leave no margins around the ink, or hardly any."""
    page.pad(*[round(random.choice([0, 1, 0.03 * page.height]))] * 4)


def lay_on_desk(page: Sheet, random: Generator) -> None:
    """Lay it, turned by up to 8 degrees, on a dark desk with grain."""
    paper = to_picture(page.pixels).convert("RGBA")
    turned = paper.rotate(random.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True)
    left, right, top, bottom = (round(max(paper.size) * random.uniform(0.1, 0.6)) for _ in range(4))
    width, height = turned.width + left + right, turned.height + top + bottom
    wood = grain(height // 6 + 2, 3, (height, width), random)[..., None]
    colour = random.uniform(0.15, 0.5) * np.array([1, random.uniform(0.6, 1), random.uniform(0.4, 1)])
    desk = to_picture(colour * (1 + 0.06 * wood))
    desk.paste(turned, (left, top), turned)
    page.pixels = np.asarray(desk) / 255


def show_edge(page: Sheet, random: Generator) -> None:
    """Show the desk at one side of the page or two."""
    margin, y, x = page.widen(0.35)
    height, width = y.shape
    down, right = y - height / 2, x - width / 2  # from the middle
    sides = (x, down), (width - x, down), (y, right), (height - y, right)
    colour = random.uniform(0.1, 0.45, 3)
    for _ in range(random.integers(1, 3)):
        slope = np.tan(np.radians(random.uniform(-6, 6)))
        edge = margin * random.uniform(0.3, 0.85)
        distance, along = sides[random.integers(4)]
        page.put((edge - (distance + slope * along)).clip(0, 1), 0, 0, colour)


def show_thumb(page: Sheet, random: Generator) -> None:
    """Show a thumb in one corner."""
    margin, y, x = page.widen(0.3)
    y, x = (axis - random.choice([0, side]) for axis, side in zip((y, x), y.shape, strict=True))
    angle, radius = random.uniform(0, np.pi), margin * random.uniform(0.7, 1.1)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    thumb = (radius * (1 - np.hypot(along / (1.25 * radius), across / (0.8 * radius)))).clip(0, 1)
    page.put(thumb, 0, 0, np.array([0.85, 0.62, 0.5]) * random.uniform(0.5, 1))


def stick(page: Sheet, random: Generator) -> None:
    """Stick it, with its shadow, on something of another colour."""
    margin, y, x = page.widen(random.uniform(0.2, 0.4))
    height, width = y.shape
    outside = margin - np.minimum.reduce([y, height - y, x, width - x])
    shadow = np.exp(-np.maximum(outside, 0) / (0.1 * margin))[..., None]
    page.pixels = np.where(outside[..., None] > 0, random.uniform(0.3, 1, 3) * (1 - 0.3 * shadow), page.pixels)


def smear(page: Sheet, random: Generator) -> None:
    """Draw what was wiped off a blackboard: clouds of chalk."""
    clouds = 0.5 + 0.5 * grain(6, 8, page.pixels.shape, random).clip(-1, 1)
    page.put(random.uniform(0.1, 0.3) * clouds, 0, 0, np.full(3, 0.95))


def fold(page: Sheet, random: Generator) -> None:
    """Fold it: a crease, with more light on one of its sides."""
    distance = gradient(page.pixels, random) + random.uniform(-0.3, 0.3)
    shade = np.where(distance > 0, random.uniform(0.8, 0.95), 1)
    crease = np.exp(-((distance * max(page.pixels.shape) / random.uniform(1, 3)) ** 2))
    page.pixels = page.pixels * (shade - random.uniform(0.05, 0.2) * crease)[..., None]


# Kinds of scenes


def scene(
    arrange: Arrangement,
    *steps: Step,
    heights: Range = (60, 240),  # of the digits, in pixels
    margins: Range = (0.3, 2),  # in digits' heights
    paper: Range = (0.75, 1),  # colours
    pen: Range = (0, 0.35),
) -> Drawing:
    """Return what draws a kind of scenes."""

    def draw(digits: Digits, random: Generator) -> Array:
        height = random.uniform(*heights)
        placed = arrange(digits, height, random)
        edges = random.uniform(*margins, 4) * height
        page = Sheet(placed, height, edges, random.uniform(*paper, 3), random.uniform(*pen, 3))
        for step in steps:
            step(page, random)
        return page.pixels

    return draw


small = partial(scene, heights=(50, 120), margins=(1, 2.5))
in_row = partial(scene, heights=(50, 120), margins=(0.8, 1.5))
in_cells = partial(scene, heights=(70, 200), margins=(0.2, 1))
CAPTIONS = "Postal code", "Amount due", "Customer no.", "Date of birth"
plain, on_desk = scene(row, write), scene(row, write, lay_on_desk)
touching = scene(partial(row, gaps=(-0.1, 0)), write)  # most digits begin before the last one ends
KINDS: dict[str, Drawing] = {
    "plain": plain,
    "lined": scene(row, rule, write),
    "squared": scene(row, partial(rule, periods=(0.35, 0.7), is_squared=True), write),
    "boxed": scene(row, box, write, margins=(0.4, 1.2)),
    "underlined": scene(row, underline, write),
    "framed": scene(row, write, frame),
    "on desk": on_desk,
    "at the edge": scene(row, write, show_edge),
    "with thumb": scene(row, write, show_thumb),
    "scanned": scene(row, scan, write, heights=(40, 90), margins=(1, 2), paper=(0.93, 1), pen=(0, 0.3)),
    "cropped": scene(row, crop_nearly, write, heights=(40, 300), margins=(0, 0)),
    "blackboard": scene(row, write, smear, paper=(0.15, 0.4), pen=(0.75, 1)),
    "dark screen": scene(row, write, paper=(0.02, 0.2), pen=(0.75, 1)),
    "grid": in_cells(partial(cells, rows=4), write),
    "comb boxes": in_cells(cells, write),
    "meter": in_cells(partial(cells, pens=(0.01, 0.02)), drums, write, pen=(0.75, 1)),
    "after a word": scene(partial(row, signs=word), write),
    "decimals and signs": scene(partial(row, gaps=(0.25, 0.5), signs=point_and_minus), write),
    "sticky note": scene(row, write, stick),
    "envelope": scene(row, rule, write, margins=(1, 4)),
    "folded": scene(row, write, fold),
    "printed": plain,
    "touching": touching,
    "two sizes": small(partial(two_lines, sizes=(0.4, 0.6)), write),
    "felt pens": in_row(partial(row, gaps=(0.3, 0.7)), partial(write, in_colours=True), paper=(0.85, 1)),
    "doodle": small(row, doodle_beside, write),
    "scoreboard": in_row(partial(row, signs=divide), write, smear, paper=(0.1, 0.3), pen=(0.7, 1)),
    "ledger": small(two_lines, write, rule_columns),
    "captioned box": small(row, partial(box, captions=CAPTIONS), write),
    "crossed out": in_row(partial(row, gaps=(0.25, 0.25), signs=cross_out_last), write),
    "show-through": small(row, write, show_through),
    "circles": in_row(partial(row, gaps=(0.2, 0.45), signs=encircle), write),
    "small print": small(row, write, small_print),
    "dashes": in_row(partial(row, signs=dashes), write),
    "note on wood": scene(row, write, lay_on_desk, margins=(0.6, 1.2)),
    "sudoku": in_cells(partial(cells, rows=9), write),
}
UNLIKE_DIGITS = "".join(each for each in string.ascii_letters if each not in "OoIlSsZzBbgqGDQTLYi")
PRINTED = "meter", "printed"  # kinds with printed digits


def printed(number: str, random: Generator) -> list[Tensor]:
    """Return printed digits of one font, uint8 ``(h, w)``, 20 pixels high."""
    font = random.choice(fonts())
    return [torch.from_numpy((255 * print_text(digit, font, 20)).astype(np.uint8)) for digit in number]


def make_picture(kind: Drawing, digits: Digits, random: Generator) -> Image.Image:
    """Draw a scene; half of them in uneven light, with noise and JPEG."""
    pixels = kind(digits, random)
    if random.random() < 0.5:
        return to_picture(pixels)
    return to_jpeg(photograph(pixels, random, (0.05, 0.35), (0.01, 0.05)), random)


def letter(character: str, font: str | Path) -> Image.Image:
    """Print a character in the middle of a page."""
    ink, page = print_text(character, font, 102), Page(260, 220, np.ones(3))
    page.put(ink, (260 - len(ink)) // 2, (220 - ink.shape[1]) // 2, np.zeros(3))
    return to_picture(page.pixels)


def scribble(random: Generator) -> Image.Image:
    """Draw a random line of 4 to 13 corners, half of them round."""
    corners = np.cumsum(random.normal(size=(random.integers(4, 14), 2)), axis=0)
    line = polyline(50 + 200 * (corners - corners.min(axis=0)) / np.ptp(corners, axis=0).max(), 200)
    if random.random() < 0.5:
        line = cv2.GaussianBlur(line, (1, 21), 4, borderType=cv2.BORDER_REPLICATE)
    page = Page(300, 300, np.ones(3))
    page.draw([line], int(random.integers(8, 18)), np.zeros(3))
    return to_picture(page.pixels)


def refused(pictures: Iterable[Image.Image]) -> float:
    """Return the percentage of pictures in which every figure is refused, or none is found."""
    return 100 * float(np.mean([set(read(picture)) <= {"?"} for picture in pictures]))


if __name__ == "__main__":
    parser = make_parser(__doc__, pictures=(100, "of each kind and length"), digits=([], "lengths, in place of these"))
    options = parser.parse_args()
    images, labels = load_test_digits()
    print_head("pictures", "digits right, %", "numbers right, %")
    for name, kind in KINDS.items():
        lengths = options.digits or (range(2, 10) if name in ("plain", "lined", "squared") else (1, 2, 3, 5))
        random = np.random.default_rng(0)
        pictures = []
        for length in lengths:
            for chosen in (random.integers(0, 10_000, length) for _ in range(options.pictures)):
                number = "".join(map(str, labels[chosen].tolist()))
                digits = printed(number, random) if name in PRINTED else list(images[chosen])
                right = f"{number[:-1]}?" if name == "crossed out" else number
                pictures.append((make_picture(kind, digits, random), right))
        # A word before a number is another number, of which the letters are refused.
        print_right(name, pictures, which=-1 if name == "after a word" else None)
    print()
    print_head("non-digits", "refused, %")
    dejavu = [font for font in fonts() if Path(font).name.startswith("DejaVu")]
    letters = {each: refused(letter(each, font) for font in dejavu) for each in string.ascii_letters}
    print_row("letters", f"{np.mean(list(letters.values())):.1f}")
    print_row("letters that are not like a digit", f"{np.mean([letters[each] for each in UNLIKE_DIGITS]):.1f}")
    random = np.random.default_rng(0)
    print_row("scribbles", f"{refused(scribble(random) for _ in range(4 * options.pictures)):.1f}")
    others = images[labels != 0][: 4 * options.pictures]
    turned = (make_picture(plain, [digit], random).transpose(Image.Transpose.ROTATE_90) for digit in others)
    print_row("digits other than 0, turned by 90 degrees", f"{refused(turned):.1f}")
    reasons = refuse(images.unsqueeze(1) / 255, REJECT)
    print_row("MNIST's own digits", f"{100 * np.mean([bool(reason) for reason in reasons]):.2f}")
