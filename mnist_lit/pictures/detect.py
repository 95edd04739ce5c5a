"""Detection: the digits of a picture with their boxes, ordered into lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mnist_lit.pictures.choice import choose_digits
from mnist_lit.pictures.figures import Figure, join
from mnist_lit.pictures.ink import Floats
from mnist_lit.pictures.picture import NoDigitError, full_size, to_rgb
from mnist_lit.pictures.value import DIGIT, rate

_LEAST = 8, 0.008  # of the smallest digit: pixels of the picture, and parts of its longer side
_SIDES = 240, 1600  # pixels: limits of the picture's longer side when figures are found

_NUMBER, _WORD = 1.5, 0.5  # gaps, in digits' heights, that separate two numbers, and a word from a number


@dataclass(frozen=True, eq=False)
class Detection:
    """A digit in a picture.

    Attributes:
        line: Number of its line, from 1 at the top. A gap wider than 1.5 times the height of the digits begins another
            line, and so does a word.
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

    Connected ink is found at nine thresholds, each figure at its own (``figures``). ``energy``, which measures how much
    an image is like a digit, decides the rest (``choice``): which parts are one digit that the pen has broken, which
    figure is several digits that touch, which holds digits, and whether ink is dark on light paper or light on dark.
    Figures less than half as high as the digits are left out. Of more than 300 figures the largest are taken;
    more than 80 are neither joined nor cut.

    Args:
        picture: Of any size and mode.

    Raises:
        NoDigitError: If nothing in the picture could be a digit.
    """
    picture = to_rgb(picture)
    figures, ink, margin = _find(picture)
    width, height = full_size(picture)
    scale = ink.shape[0] / height
    detections: list[Detection] = []
    for line, number in enumerate(_lines(figures), start=1):
        for position, figure in enumerate(number, start=1):
            left, top, right, bottom = (edge / scale for edge in np.subtract(figure.box, (margin, 0, margin, 0)))
            box = max(0, int(left)), int(top), min(ceil(right), width), min(ceil(bottom), height)
            detections.append(Detection(line, position, box, _to_tensor(figure)))
    return detections


def preprocess(image: Image.Image) -> Tensor:
    """Return the digit in a picture as MNIST's makers would have made it, float32 ``(1, 28, 28)`` in [0, 1].

    All figures that ``detect_digits`` would return are taken for one digit, and drawn as ``prepare`` describes it.

    Args:
        image: A picture of one digit, of any size and mode.

    Raises:
        NoDigitError: If there is no ink in it.

    Example:
        >>> from PIL import ImageDraw
        >>> picture = Image.new("RGB", (300, 400), "lightyellow")
        >>> ImageDraw.Draw(picture).line([(100, 50), (110, 350)], fill="navy", width=20)
        >>> preprocess(picture).shape
        torch.Size([1, 28, 28])
    """
    figures, ink, _ = _find(to_rgb(image))
    (digit,) = figures if len(figures) == 1 else rate([join(figures)], ink)
    return _to_tensor(digit if digit.image is not None else figures[0])


def _find(picture: Image.Image) -> tuple[list[Figure], Floats, int]:
    # The digits, the ink of the picture at the size at which they are found, and the margin on its left.
    scale = min(max(max(picture.size), _SIDES[0]), _SIDES[1]) / max(picture.size)
    size = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)
    if min(size) < _LEAST[0] * scale:
        raise NoDigitError("there is no ink in it that could be a digit: it is too small")
    pixels = np.asarray(picture)
    margin = 0
    if size[1] > 3 * size[0]:  # a tight crop of a 1: with paper on both sides, of the colour of most of its edges
        margin = size[1] // 4
        paper = np.median(pixels[:, [0, -1]].reshape(-1, 3), axis=0)
        pixels = cv2.copyMakeBorder(pixels, 0, 0, margin, margin, cv2.BORDER_CONSTANT, value=paper.tolist())
    figures, ink = choose_digits(pixels, max(_LEAST[0] * scale, _LEAST[1] * max(size)))
    if not figures:
        raise NoDigitError("there is no ink in it that could be a digit")
    return figures, ink, margin


def _to_tensor(figure: Figure) -> Tensor:
    return torch.from_numpy(figure.image)[None]


def _lines(figures: Sequence[Figure]) -> list[list[Figure]]:
    # In reading order, each line from the left.
    lines: list[list[Figure]] = []
    for figure in sorted(figures, key=lambda figure: figure.box[1] + figure.box[3]):
        for line in lines:
            nearest = min(line, key=lambda each: abs(each.box[0] + each.box[2] - figure.box[0] - figure.box[2]))
            common = min(figure.box[3], nearest.box[3]) - max(figure.box[1], nearest.box[1])
            if common > 0.4 * min(figure.height, nearest.height):
                line.append(figure)
                break
        else:
            lines.append([figure])
    return [number for line in lines for number in _numbers(sorted(line, key=lambda figure: figure.box[0]))]


def _numbers(line: Sequence[Figure]) -> list[list[Figure]]:
    # The numbers of a line: numbers in two columns are further apart than the digits of a number. A word, at least half
    # of whose figures are not digits, is a number of its own.
    def is_word(figures: Sequence[Figure]) -> bool:
        return 2 * sum(figure.likeness < DIGIT for figure in figures) >= len(figures)

    height = float(np.median([figure.height for figure in line]))
    chunks = [[line[0]]]
    for before, figure in pairwise(line):
        if figure.box[0] - before.box[2] > _WORD * height:
            chunks.append([])
        chunks[-1].append(figure)
    numbers = chunks[:1]
    for chunk in chunks[1:]:
        space = chunk[0].box[0] - numbers[-1][-1].box[2]
        if space > _NUMBER * height or is_word(chunk) != is_word(numbers[-1]):
            numbers.append(chunk)
        else:
            numbers[-1] = numbers[-1] + chunk
    return numbers
