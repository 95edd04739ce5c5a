"""The ink of a picture: how much darker each pixel is than the paper around it."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

_PAPER = 160  # pixels of the longer side at which paper is separated from ink


def find_paper(pixels: Floats) -> Floats:
    """Return the pixels as they would be without dark ink, in [0, 1].

    Anything small and dark is closed with a disc as wide as a quarter of the picture (morphological closing: Serra,
    "Image analysis and mathematical morphology", 1982), and the result is smoothed.

    Args:
        pixels: ``(H, W, 3)`` in [0, 1].
    """
    height, width, _ = pixels.shape
    scale = _PAPER / max(height, width)
    small = cv2.resize(
        pixels, (max(8, round(scale * width)), max(8, round(scale * height))), interpolation=cv2.INTER_AREA
    )
    # A light speck is not paper: the median removes it.
    small = cv2.medianBlur((255 * small).round().astype(np.uint8), 3).astype(np.float32) / 255
    diameter = max(small.shape) // 4 | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    paper = cv2.GaussianBlur(cv2.morphologyEx(small, cv2.MORPH_CLOSE, disc), (0, 0), diameter / 4)
    return np.asarray(cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR))


def find_ink(pixels: Floats, paper: Floats) -> Floats:
    """Return the share of the light that each pixel absorbs, ``(H, W)`` in [0, 1], without underlines.

    Args:
        pixels: ``(H, W, 3)`` in [0, 1].
        paper: What ``find_paper`` returns for them.
    """
    absorbed = (1 - pixels / np.maximum(paper, 0.05)).clip(0, 1)
    return _erase_underlines(np.asarray(cv2.GaussianBlur(np.sqrt((absorbed**2).mean(axis=2)), (0, 0), 0.8)))


def _erase_underlines(ink: Floats) -> Floats:
    # Removes straight lines that digits stand on.
    _, labels, statistics, _ = cv2.connectedComponentsWithStats((ink > np.percentile(ink, 99.9) / 2).astype(np.uint8))
    erased = ink.copy()
    for label, (left, top, width, height, _) in enumerate(statistics[1:], start=1):
        if width < 1.3 * height or width < 0.1 * max(ink.shape):
            continue
        from_below = labels[top : top + height, left : left + width][::-1] == label
        rows, columns = np.mgrid[:height, :width]
        lowest = from_below.argmax(axis=0)
        line = np.polyval(np.polyfit(columns[0], lowest, 1), columns[0])
        width_of_line = float(np.median((~from_below & (rows > lowest)).argmax(axis=0) - lowest))
        if (abs(lowest - line) > 2 + 0.02 * height).mean() < 0.1 and width_of_line < 0.3 * height:
            erased[top : top + height, left : left + width][::-1][rows < line + 1.5 * width_of_line + 2] = 0
            erased[top + height : top + height + 4, left : left + width] = 0  # its blurred edge
    return erased
