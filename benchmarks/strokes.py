"""Strokes: the forms of digits and of other signs as lines of a pen, and their ink."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from drawing import Array, crop, polyline, trace
from mnist_lit.pictures.preparation import place

_SIDE = 160  # pixels of a drawing, 8 for each of MNIST's box
Strokes = Sequence[Array]  # each (points, 2)
NON_DIGITS = "!#$%&()*+<=>?@ACEFGHJKLMNPRTUVWXY[]^acdefhjkmnprtuvwxy{}~"  # and no specks
FONTS = "futural", "futuram", "rowmans", "rowmand", "rowmant", "timesr", "timesrb", "timesi", "timesib", "scripts"
"""Hershey's fonts that have digits (1967)."""
HANDS: dict[int, list[list[list[tuple[float, float]]]]] = {  # forms that are rare in MNIST: strokes of corners (x, y)
    1: [[[(0.15, 0.45), (0.55, 0), (0.55, 1.6)]], [[(0.1, 0.5), (0.6, 0), (0.6, 1.6)], [(0.2, 1.6), (1, 1.6)]]],
    4: [
        [[(0.1, 0), (0.05, 0.8), (0.9, 0.8)], [(0.8, 0), (0.8, 1.6)]],
        [[(0.5, 0), (0, 1), (1, 1)], [(0.7, 0.6), (0.7, 1.6)]],
    ],
    7: [
        [[(0, 0.05), (0.95, 0), (0.35, 1.6)], [(0.2, 0.8), (0.9, 0.75)]],
        [[(0.05, 0.25), (0.05, 0), (1, 0), (0.45, 0.8), (0.35, 1.6)]],
    ],
}


def glyphs(characters: str, fonts: Sequence[str] = ()) -> list[Strokes]:
    """Return the signs that some of Hershey's fonts, by default all, have for some characters, without specks."""
    # Imported here: it comes with the extra "bench", and the tests draw other strokes without it.
    from HersheyFonts import HersheyFonts

    signs: list[Strokes] = []
    font = HersheyFonts()
    for name in fonts or font.default_font_names:
        font.load_default_font(name)
        found = [[np.array(stroke, float) for stroke in glyph.strokes] for glyph in font.glyphs_for_text(characters)]
        signs += [strokes for strokes in found if strokes and np.ptp(np.concatenate(strokes), axis=0).max() > 5]
    return signs


def forms_of(digit: int) -> list[Strokes]:
    """Return the forms of a digit in Hershey's fonts, and those that are rare in MNIST."""
    return glyphs(str(digit), FONTS) + [[np.array(line) for line in form] for form in HANDS.get(digit, [])]


def curve(random: Generator) -> Strokes:
    """Return one to three lines: angular, smooth, wandering, or arcs of ellipses; none as narrow as a 1."""
    kind = random.integers(4)
    strokes = []
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if kind < 2:  # angular or smooth
            line = polyline(random.uniform(size=(random.integers(2, 9) + kind, 2)), 120)
            if kind == 1:
                line[:] = cv2.GaussianBlur(line, (1, 81), random.uniform(2, 10), borderType=cv2.BORDER_REPLICATE)
        elif kind == 2:
            changes = cv2.GaussianBlur(random.normal(size=(random.integers(30, 120), 1)), (1, 13), 2)
            angles = random.uniform(0, 2 * np.pi) + np.cumsum(random.uniform(0.2, 1.5) * changes)
            line = random.uniform(size=2) + 0.04 * np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)
        else:
            growth = random.choice([0, 0.5])  # an arc that is far from a 0, or a spiral
            angles = random.uniform(0, 2 * np.pi) + np.linspace(0, random.uniform(1.5, 14 if growth else 4.5), 80)
            radii = random.uniform(0.1, 0.5, 2) + np.linspace(0, growth, 80)[:, None]
            line = random.uniform(size=2) + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        strokes.append(line)
    points = np.concatenate(strokes)
    longer, shorter = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return strokes if shorter > 0.2 * longer else curve(random)


def bend(strokes: Strokes, affine: Array, random: Generator) -> Strokes:
    """Return strokes, their longer side 1, after a 2x2 matrix, bent a little around four points."""
    lines = [polyline(line, 12 * len(line) - 11 if len(line) < 40 else len(line)) for line in strokes]
    points = np.concatenate(lines)
    middle, size = (points.max(axis=0) + points.min(axis=0)) / 2, np.ptp(points, axis=0).max()
    points = (points - middle) / size @ affine.T
    for centre, push in zip(random.uniform(-0.6, 0.6, (4, 2)), random.normal(0, 0.05, (4, 2)), strict=True):
        points += push * np.exp(-((points - centre) ** 2).sum(axis=1, keepdims=True) / 0.1)
    return np.split(points, np.cumsum([len(line) for line in lines])[:-1])


def ink_of(strokes: Strokes, height: float, pen: float) -> Array:
    """Return the ink of strokes, float ``(h, w)`` in [0, 1]; height and the pen's width are in pixels.

    The height is that of the ink, unless it is much wider than high.
    """
    width, span = np.ptp(np.concatenate(strokes), axis=0)
    return crop(_scaled(strokes, max(1, height - pen) / max(span, 0.6 * width), pen) / 255, 0.2)


def draw(strokes: Strokes, random: Generator) -> Tensor:
    """Return bent strokes as an image, uint8 ``(28, 28)``, with a pen of 1.4 to 3.2 pixels."""
    angle, shear, width = np.radians(random.uniform(-12, 12)), random.uniform(-0.2, 0.2), random.uniform(0.75, 1.25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lines = bend(strokes, turn @ [[width, shear], [0, 1]], random)
    pen = random.uniform(1.4, 3.2) / 20  # of MNIST's box for the ink
    return to_image(_scaled(lines, _SIDE * (1 - pen) / np.ptp(np.concatenate(lines), axis=0).max(), _SIDE * pen))


def to_image(ink: Array) -> Tensor:
    """Return uint8 ink ``(H, W)`` in the form of MNIST, uint8 ``(28, 28)``."""
    return torch.from_numpy((255 * place((ink / 255).astype(np.float32))).round().astype(np.uint8))


def _scaled(strokes: Strokes, scale: float, pen: float) -> Array:
    # Uint8 (H, W), the strokes so many times as large, with a pen of so many pixels.
    points = np.concatenate(strokes)
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    width, height = np.ceil(scale * span + pen + 2).astype(int)
    return trace([scale * (line - low) + pen / 2 + 0.5 for line in strokes], pen, height, width)
