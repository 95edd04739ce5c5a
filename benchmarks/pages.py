"""Pages: sheets of paper, and what stands on them beside numbers."""

from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from drawing import Array, crop
from strokes import curve, ink_of


class Page:
    """A picture that is being drawn: ``pixels``, float ``(H, W, 3)`` in [0, 1]."""

    def __init__(self, height: float, width: float, paper: Array) -> None:
        self.pixels: Array = np.tile(paper.astype(np.float32), (round(height), round(width), 1))

    def put(self, ink: Array, top: float, left: float, colour: Array) -> None:
        """Put ink ``(h, w)`` in [0, 1] on it; what is beyond its edges is cut off."""
        y, x = round(top), round(left)
        ink = ink[max(0, -y) :, max(0, -x) :]
        place = self.pixels[max(0, y) : max(0, y) + ink.shape[0], max(0, x) : max(0, x) + ink.shape[1]]
        place += (colour - place) * ink[: place.shape[0], : place.shape[1], None]

    def line(self, points: Array, pen: float, colour: Array, is_closed: bool = False) -> None:
        """Draw a line through points ``(x, y)``, ``pen`` pixels wide."""
        mask = np.zeros(self.pixels.shape[:2], np.uint8)
        corners = (16 * points).round().astype(np.int32)  # with 4 binary places
        cv2.polylines(mask, [corners], is_closed, 255, max(1, round(pen)), cv2.LINE_AA, shift=4)
        self.put(mask / 255, 0, 0, colour)


@cache
def fonts() -> list[Path]:
    """Return the files of the fonts for text that matplotlib brings."""
    return sorted(
        path
        for kind in ("DejaVuS*[!y].ttf", "cm[rst][st0]*.ttf", "STIXGeneral*.ttf")
        for path in Path(matplotlib.get_data_path(), "fonts", "ttf").glob(kind)
    )


def print_text(text: str, font: Path, height: float) -> Array:
    """Return printed text, its digits ``height`` pixels high, float ``(h, w)`` in [0, 1]."""
    face = ImageFont.truetype(font, max(6, round(1.37 * height)))
    _, _, right, bottom = face.getbbox(text)
    image = Image.new("L", (int(right) + 4, int(bottom) + 4))
    ImageDraw.Draw(image).text((2, 2), text, 255, face)
    return crop(np.asarray(image) / 255, 0.2)


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
    margin = round(0.2 * height)
    canvas = np.pad(ink, margin).astype(np.float32)
    for line in lines:
        points = (line + random.normal(0, 0.06, line.shape)) * (width, height) + margin
        pen = max(1, round(height * random.uniform(0.04, 0.13)))
        cv2.polylines(canvas, [(16 * points).round().astype(np.int32)], False, 1, pen, cv2.LINE_AA, 4)
    return crop(canvas, 0.2)


def doodle(height: float, random: Generator) -> Array:
    """Return the ink of a small drawing: a face or a sun, a house, a star, an arrow, a wave, or anything."""

    def ring(x: float, y: float, radius: float, rays: int = 0) -> Array:
        angles = np.linspace(0, 2 * np.pi, 97)
        radii = radius * (1 + 0.2 * np.sign(np.sin(rays * angles)))
        return np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)

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
    for _ in range(30):
        shade = random.uniform(0, 0.35) if random.random() < 0.5 else random.uniform(0.7, 1)
        colour = random.uniform(0, 1, 3) if random.random() < 0.4 else shade * random.uniform(0.85, 1, 3)
        difference = np.abs(colour - paper)
        if difference.max() > least and difference.mean() > 0.6 * least:
            return colour
    return np.full(3, float(paper.mean() < 0.5))
