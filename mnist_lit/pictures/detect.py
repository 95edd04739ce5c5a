"""Detection: the digits of a picture with their boxes, ordered into lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np
from PIL import Image
from torch import Tensor

from mnist_lit.pictures.candidates import overlap
from mnist_lit.pictures.choice import choose_digits
from mnist_lit.pictures.figures import Figure
from mnist_lit.pictures.picture import NoDigitError, full_size, to_rgb

_SIDES = 240, 1600  # pixels: limits of the picture's longer side when figures are found


@dataclass(frozen=True, eq=False)
class Detection:
    """A digit in a picture.

    Attributes:
        line: Number of its line, from 1 at the top. A gap wider than 1.5 times the height of the digits begins another
            line.
        position: Its place in the line, from 1 at the left.
        box: Left, top, right and bottom edge, in pixels of the upright picture.
        image: The digit as MNIST's makers would have made it, float32 ``(1, 28, 28)`` in [0, 1].
    """

    line: int
    position: int
    box: tuple[int, int, int, int]
    image: Tensor


def detect_digits(picture: Image.Image) -> list[Detection]:
    """Return the digits in a picture in reading order: lines from the top, in each line from the left.

    Connected ink is found at eight thresholds, and the best threshold is taken (``candidates``). ``energy``, which
    measures how much an image is like a digit, decides the rest (``choice``): which parts are one digit that the pen
    has broken, which figure is two digits that touch, whether figures at the border belong to the number, whether ink
    is dark on light paper or light on dark, and whether all of the picture is one digit. Digits less than 0.4 times as
    high as the tallest are left out. More than 40 figures are neither joined nor cut.

    Args:
        picture: Of any size and mode.

    Raises:
        NoDigitError: If nothing in the picture could be a digit.
    """
    picture = to_rgb(picture)
    longer = max(picture.size)
    scale = min(max(longer, _SIDES[0]), _SIDES[1]) / longer
    size = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3), dtype=np.float32) / 255
    images = choose_digits(picture, pixels)
    if not images:
        raise NoDigitError("there is no ink in it that could be a digit")
    width, height = full_size(picture)
    scale *= longer / max(width, height)
    detections: list[Detection] = []
    for line, figures in enumerate(_lines(list(images)), start=1):
        for position, figure in enumerate(figures, start=1):
            left, top, right, bottom = (edge / scale for edge in figure.box)
            box = int(left), int(top), min(ceil(right), width), min(ceil(bottom), height)
            detections.append(Detection(line, position, box, images[figure]))
    return detections


def _lines(figures: Sequence[Figure]) -> list[list[Figure]]:
    # In reading order, each line from the left.
    lines: list[list[Figure]] = []
    for figure in sorted(figures, key=lambda figure: figure.top + figure.bottom):
        for line in lines:
            nearest = min(line, key=lambda each: abs(each.left + each.right - figure.left - figure.right))
            common = overlap(figure.top, figure.bottom, nearest.top, nearest.bottom)
            if common > 0.4 * min(figure.height, nearest.height):
                line.append(figure)
                break
        else:
            lines.append([figure])
    return [number for line in lines for number in _numbers(sorted(line, key=lambda figure: figure.left))]


def _numbers(line: Sequence[Figure]) -> list[list[Figure]]:
    # The numbers of a line: numbers in two columns are further apart than the digits of a number.
    numbers, height = [[line[0]]], float(np.median([figure.height for figure in line]))
    for before, figure in pairwise(line):
        if figure.left - before.right > 1.5 * height:
            numbers.append([])
        numbers[-1].append(figure)
    return numbers
