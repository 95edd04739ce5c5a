"""The ink of a picture: how much darker each pixel is than the paper around it."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[np.uint8]

_PAPER = 160  # pixels of the longer side at which paper is separated from ink
_MIN_PAPER = 13  # of 255: in darker paper noise would absorb much of the light


def find_ink(pixels: Pixels) -> Floats:
    """Return the share of the light that each pixel absorbs, float32 ``(H, W)`` in [0, 1].

    Args:
        pixels: RGB, uint8 ``(H, W, 3)``.
    """
    absorbed = 255 - cv2.divide(pixels, np.maximum(_find_paper(pixels), _MIN_PAPER), scale=255).astype(np.float32)
    mean = cv2.transform(absorbed * absorbed, np.full((1, 3), 1 / 3, np.float32))  # of the three colours
    return np.asarray(cv2.GaussianBlur(cv2.sqrt(mean), (0, 0), 0.8) / 255)


def find_other_colour(pixels: Pixels) -> Floats:
    """Return how far each pixel is from the colour of most pixels, for ink that is neither darker nor lighter.

    Args:
        pixels: RGB, uint8 ``(H, W, 3)``.

    Returns:
        Float32 ``(H, W)`` in [0, 1], 1 for the farthest.
    """
    paper = np.median(pixels[::4, ::4].reshape(-1, 3), axis=0).astype(np.float32)
    distance = np.linalg.norm(cv2.GaussianBlur(pixels, (0, 0), 0.8).astype(np.float32) - paper, axis=2)
    return np.asarray(distance / max(_MIN_PAPER * 4, float(distance.max())))


def _find_paper(pixels: Pixels) -> Pixels:
    # The pixels as they would be without dark ink. Anything small and dark is closed with a disc a quarter as wide as
    # the picture (morphological closing: Serra, "Image analysis and mathematical morphology", 1982), then smoothed.
    height, width, _ = pixels.shape
    size = [max(8, round(_PAPER / max(height, width) * length)) for length in (width, height)]
    small = cv2.medianBlur(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), 3)  # a light speck is not paper
    diameter = max(size) // 4 | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    paper = cv2.GaussianBlur(cv2.morphologyEx(small, cv2.MORPH_CLOSE, disc), (0, 0), diameter / 4)
    return np.asarray(cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR))
