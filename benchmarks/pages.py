"""Pages: paper, and what is drawn on it beside numbers."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from drawing import Array, crop, trace
from strokes import curve, ink_of


class Page:
    """A picture that is being drawn: ``pixels``, float ``(H, W, 3)`` in [0, 1]."""

    def __init__(self, height: float, width: float, paper: Array) -> None:
        self.pixels: Array = np.tile(paper.astype(np.float32), (round(height), round(width), 1))

    def put(self, ink: Array, top: float, left: float, colour: Array) -> None:
        """Put ink ``(h, w)`` in [0, 1] on it; what is beyond its edges is cut off."""
        y, x = round(top), round(left)
        ink = ink[max(0, -y) :, max(0, -x) :]
        place = self.pixels[max(0, y) :, max(0, x) :][: ink.shape[0], : ink.shape[1]]
        place += (colour - place) * ink[: place.shape[0], : place.shape[1], None]

    def draw(self, lines: Sequence[ArrayLike], pen: float, colour: Array) -> None:
        """Draw lines through points ``(x, y)``, ``pen`` pixels wide."""
        self.put(trace(lines, pen, *self.pixels.shape[:2]) / 255, 0, 0, colour)

    def rule(self, places: Array, slope: float, pen: float, colour: Array, axis: int = 0) -> None:
        """Draw parallel lines from the left edge to the right one, or, along axis 1, from top to bottom."""
        length = self.pixels.shape[1 - axis]
        lines = [np.array([(0, place), (length, place + slope * length)]) for place in places]
        self.draw([line[:, ::-1] for line in lines] if axis else lines, pen, colour)


def rectangle(left: float, top: float, right: float, bottom: float) -> Array:
    """Return the closed line ``(5, 2)`` around a box."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])


def ring(x: float, y: float, radius: float, rays: int = 0) -> Array:
    """Return a closed line ``(97, 2)`` around a point: a circle, or a star."""
    angles = np.linspace(0, 2 * np.pi, 97)
    radii = radius * (1 + 0.2 * np.sign(np.sin(rays * angles)))
    return np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)


@cache
def fonts() -> list[str]:
    """Return the files of the fonts for text that matplotlib brings."""
    kinds = "DejaVuS*[!y].ttf", "cm[rst][st0]*.ttf", "STIXGeneral*.ttf"
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return sorted(str(path) for kind in kinds for path in folder.glob(kind))


def print_text(text: str, font: str | Path, height: float) -> Array:
    """Return printed text, its digits ``height`` pixels high, float ``(h, w)`` in [0, 1]."""
    face = ImageFont.truetype(font, max(6, round(1.37 * height)))
    _, _, right, bottom = face.getbbox(text)
    image = Image.new("L", (int(right) + 4, int(bottom) + 4))
    ImageDraw.Draw(image).text((2, 2), text, 255, face)
    return crop(np.asarray(image) / 255, 0.2)


def draw_over(ink: Array, lines: Sequence[Array], pens: Sequence[float]) -> Array:
    """Return ink with lines over it, of which the points ``(x, y)`` are pixels of the ink; both grow where needed."""
    height, width = ink.shape
    margin = max(height, width)
    page = Page(height + 2 * margin, width + 2 * margin, np.zeros(3))
    page.put(ink, margin, margin, np.ones(3))
    for line, pen in zip(lines, pens, strict=True):
        page.draw([line + margin], pen, np.ones(3))
    return crop(page.pixels[..., 0], 0.2)


def cross_out(ink: Array, random: Generator) -> Array:
    """Return ink with a cross, lines or a scribble over it."""
    height, width = ink.shape
    kind, count = random.integers(3), int(random.integers(1, 5))
    if kind == 0:
        lines = [np.array([(0, 0), (1, 1)]), np.array([(0, 1), (1, 0)])]
    elif kind == 1:
        lines = [np.array([(-0.1, y), (1.1, y)]) for y in random.uniform(0.25, 0.75, count)]
        lines += [np.array([(0, 1), (1, 0)])] * (count == 1)
    else:
        corners = 3 + 3 * count
        lines = [np.stack([np.arange(corners) % 2, np.linspace(0, 1, corners)], axis=1)[:, :: random.choice([-1, 1])]]
    lines = [(line + random.normal(0, 0.06, line.shape)) * (width, height) for line in lines]
    return draw_over(ink, lines, height * random.uniform(0.04, 0.13, len(lines)))


def doodle(height: float, random: Generator) -> Array:
    """Return the ink of a small drawing: a face or a sun, a house, a star, an arrow, a wave, or anything."""
    kind = random.integers(6)
    if kind == 0:
        lines = [ring(0, 0, 1), ring(-0.35, -0.3, 0.1), ring(0.35, -0.3, 0.1), ring(0, 0.1, 0.5)[8:40]]
        lines += [ring(0, 0, 1.4, int(random.integers(6, 14)))] * int(random.integers(2))
    elif kind == 1:
        lines = [np.array([(0, 1), (0, 0), (0.6, -0.6), (1.2, 0), (1.2, 1), (0, 1)]), np.array([(0, 0), (1.2, 0)])]
        lines += [np.array([(0.4, 1), (0.4, 0.5), (0.7, 0.5), (0.7, 1)])]
    elif kind == 2:
        lines = [ring(0, 0, 1, int(random.integers(4, 9)))] + [ring(0, 0, 0.3)] * int(random.integers(2))
    elif kind == 3:
        lines = [np.array([(0, 0.4), (1.6, 0.4)]), np.array([(1.2, 0), (1.6, 0.4), (1.2, 0.8)])]
    elif kind == 4:
        times = np.linspace(0, random.uniform(6, 25), 120)
        lines = [np.stack([times / 4, np.sin(times)], axis=1)]
    else:
        lines = [*curve(random), *curve(random)]
    return ink_of(lines, height, max(1, random.uniform(0.01, 0.06) * height))


def contrast(paper: Array, random: Generator, least: float) -> Array:
    """Return a colour that differs from the paper's by at least so much in one of the three."""
    while True:
        shade = random.uniform(0, 0.35) if random.random() < 0.5 else random.uniform(0.7, 1)
        colour = random.uniform(0, 1, 3) if random.random() < 0.4 else shade * random.uniform(0.85, 1, 3)
        difference = np.abs(colour - paper)
        if difference.max() > least and difference.mean() > 0.6 * least:
            return colour
