"""Draw docs/number.jpg and docs/digit.jpg, the pictures that the documentation reads.

    python benchmarks/examples.py

They are drawn, not photographed. Their strokes are only here: no network of the package was trained on them.
"""

import cv2
import numpy as np
from numpy.random import Generator

from console import ROOT
from drawing import photograph, polyline, to_picture
from pages import Page
from strokes import bend, ink_of

SLANT = np.array([[1, -0.12], [0, 1]])
STROKES = {
    "1": [[(0, 0.1), (0.1, 0), (0.06, 1)]],
    "4": [[(0.3, 0), (0.18, 0.35), (0, 0.62), (0.35, 0.6), (0.7, 0.57)], [(0.55, 0.2), (0.5, 0.6), (0.42, 1)]],
    "5": [
        [(0.14, 0.02), (0.08, 0.42), (0.35, 0.36), (0.58, 0.55), (0.54, 0.85), (0.25, 1), (0, 0.9)],
        [(0.12, 0.03), (0.6, 0)],
    ],
    "7": [[(0, 0.06), (0.3, 0.05), (0.62, 0), (0.42, 0.4), (0.24, 1)], [(0.14, 0.52), (0.56, 0.46)]],
    "8": [
        [
            *((0.52, 0.12), (0.3, 0), (0.08, 0.14), (0.16, 0.36), (0.46, 0.56), (0.54, 0.8), (0.3, 1)),
            *((0.04, 0.84), (0.12, 0.6), (0.44, 0.36), (0.56, 0.2), (0.5, 0.1)),
        ]
    ],
}


def write(page: Page, number: str, top: float, left: float, height: float, pen: float, random: Generator) -> None:
    """Write a number on a page; lengths in pixels."""
    for digit in number:
        lines = [polyline(np.array(corners), 20 * len(corners)) for corners in STROKES[digit]]
        bent = 8 if digit in "58" else 2  # of 20 points from corner to corner
        smooth = [cv2.GaussianBlur(line, (1, 41), bent, borderType=cv2.BORDER_REPLICATE) for line in lines]
        ink = ink_of(bend(smooth, SLANT, random), height, pen)
        page.put(ink, top + random.uniform(-3, 3), left, np.array([0.16, 0.14, 0.32]))
        left += ink.shape[1] + 0.4 * height


if __name__ == "__main__":
    random = np.random.default_rng(0)
    squared = Page(220, 620, np.array([0.86, 0.9, 0.98]))
    for axis, slope in enumerate((8 / 620, 4 / 220)):
        squared.rule(np.arange(8, 620, 41), slope, 1, np.array([0.6, 0.7, 0.82]), axis)
    write(squared, "75811", 74, 150, 80, 8, random)
    plain = Page(300, 330, np.array([0.8, 0.92, 0.87]))
    write(plain, "4", 60, 90, 180, 17, random)
    for name, page in ("number", squared), ("digit", plain):
        pixels = photograph(page.pixels, random, (0.2, 0.3), (0.02, 0.03), texture=0.04)
        to_picture(pixels).save(ROOT / "docs" / f"{name}.jpg", quality=90)
