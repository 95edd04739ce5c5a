"""Strokes, ink, paper and light: for the programs that draw."""

import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image

Array = npt.NDArray[Any]
Range = tuple[float, float]  # least and most
INK = 60  # of 255: what counts as ink where a digit of MNIST is cropped


def polyline(corners: Array, count: int) -> Array:
    """Return ``(count, 2)`` points of the line through corners, as many between each two."""
    times = np.linspace(0, len(corners) - 1, count)
    return np.stack([np.interp(times, range(len(corners)), axis) for axis in corners.T], axis=1)


def trace(lines: Sequence[npt.ArrayLike], pen: float, height: int, width: int) -> Array:
    """Return lines through points ``(x, y)`` as uint8 ``(height, width)``; the pen's width is in pixels."""
    canvas = np.zeros((height, width), np.uint8)
    corners = [(16 * np.asarray(line)).round().astype(np.int32) for line in lines]  # with 4 binary places
    cv2.polylines(canvas, corners, False, 255, max(1, round(pen)), cv2.LINE_AA, shift=4)
    return canvas


def crop(ink: Array, least: float = INK) -> Array:
    """Return the part ``(h, w)`` of ``(H, W)`` pixels that has ink, which is above ``least``."""
    left, top, width, height = cv2.boundingRect((ink > least).astype(np.uint8))
    return ink[top : top + height, left : left + width]


def grain(rows: int, columns: int, shape: tuple[int, ...], random: Generator) -> Array:
    """Return a smooth random texture for ``(H, W, ...)`` with so many rows and columns of values between."""
    coarse = Image.fromarray(random.normal(size=(rows, columns)).astype(np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def gradient(pixels: Array, random: Generator) -> Array:
    """Return how far each pixel ``(H, W)`` is from the middle in a random direction, in sides of the picture."""
    height, width, _ = pixels.shape
    y, x = np.ogrid[:height, :width]
    angle = random.uniform(0, 2 * np.pi)
    return np.asarray(np.cos(angle) * (x / width - 0.5) + np.sin(angle) * (y / height - 0.5))


def photograph(pixels: Array, random: Generator, falloff: Range, noise: Range, texture: float = 0) -> Array:
    """Return pixels ``(H, W, 3)`` in light that falls off to one side, with noise and up to so much paper's texture."""
    distance = gradient(pixels, random) + 0.7
    light = 1 - random.uniform(*falloff) * distance / 1.4
    if texture:
        fibres = grain(len(pixels) // 8 + 2, pixels.shape[1] // 8 + 2, pixels.shape, random)
        light *= 1 + random.uniform(0, texture) * fibres
    return pixels * light[..., None] + random.uniform(*noise) * random.normal(size=pixels.shape)


def to_picture(pixels: Array) -> Image.Image:
    """Return RGB ``pixels`` ``(H, W, 3)`` in [0, 1] as a picture."""
    return Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))


def to_jpeg(pixels: Array, random: Generator) -> Image.Image:
    """Return it as it comes back from a JPEG file of a quality from 40 to 89."""
    file = io.BytesIO()
    to_picture(pixels).save(file, "JPEG", quality=int(random.integers(40, 90)))
    return Image.open(file)
