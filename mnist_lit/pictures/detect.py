"""Detection: the digits of a picture with their boxes, ordered into lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from math import ceil

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mnist_lit.pictures.candidates import find_cut_and_joined, find_whole, rate
from mnist_lit.pictures.components import Component, join
from mnist_lit.pictures.context import LIKELY, judge
from mnist_lit.pictures.ink import Pixels, find_ink, find_other_colour
from mnist_lit.pictures.picture import NoDigitError, to_rgb

MIN_SIZE = 8, 0.008  # of the smallest digit: pixels of the picture, and parts of its longer side
_SIDES = 240, 1600  # pixels: limits of the picture's longer side when components are found

_RIVAL = 0.3  # of the value of the digits in one ink: below, the other ink is only what is between the digits
_SURROUNDS = 3  # longer sides on the border: a frame, or the desk
_MAX_GAP = 1.5  # in digits' heights, between two digits of a number


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

    Connected ink is found at nine thresholds (``components``). All of it, and what comes of it where digits touch or
    the pen has broken them (``candidates``), is scored by a small network, by its likeness to a digit, by what it
    overlaps and what is around it (``context``); the best score is taken first, and nothing that overlaps it. Of more
    than 300 components the largest are scored.

    Args:
        picture: Of any size and mode.

    Raises:
        NoDigitError: If nothing in the picture could be a digit.
    """
    picture = to_rgb(picture)
    components, margin = _find(picture)
    (width, height), (rows, columns) = picture.size, components[0].ink.shape
    scales = np.tile([(columns - 2 * margin) / width, rows / height], 2)  # each side was rounded
    detections: list[Detection] = []
    for line, number in enumerate(_lines(components), start=1):
        for position, component in enumerate(number, start=1):
            left, top, right, bottom = np.subtract(component.box, (margin, 0, margin, 0)) / scales
            box = max(0, int(left)), int(top), min(ceil(right), width), min(ceil(bottom), height)
            detections.append(Detection(line, position, box, torch.from_numpy(component.image)[None]))
    return detections


def preprocess(image: Image.Image) -> Tensor:
    """Return the digit in a picture as MNIST's makers would have made it, float32 ``(1, 28, 28)`` in [0, 1].

    All components that ``detect_digits`` would return are taken for one digit, and drawn as ``prepare`` describes it.

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
    components, _ = _find(to_rgb(image))
    (digit,) = rate([join(components)])
    return torch.from_numpy(digit.image)[None]


def _find(picture: Image.Image) -> tuple[list[Component], int]:
    # The digits, at the size at which they are found, and the margin on the left of the picture.
    picture, scale = resize(picture)
    size = picture.size
    if min(size) < MIN_SIZE[0] * scale:
        raise NoDigitError("there is no ink in it that could be a digit: it is too small")
    pixels = np.asarray(picture)
    margin = 0
    if size[1] > 3 * size[0]:  # a tight crop of a 1: with paper on both sides, of the colour of most of its edges
        margin = size[1] // 4
        paper = np.median(pixels[:, [0, -1]].reshape(-1, 3), axis=0)
        pixels = cv2.copyMakeBorder(pixels, 0, 0, margin, margin, cv2.BORDER_CONSTANT, value=paper.tolist())
    components = _choose(pixels, max(MIN_SIZE[0] * scale, MIN_SIZE[1] * max(size)))
    if not components:
        raise NoDigitError("there is no ink in it that could be a digit")
    return components, margin


def _choose(pixels: Pixels, min_size: float) -> list[Component]:
    # The digits of a picture, RGB uint8 (H, W, 3), in dark or in light ink; if there are none, the largest component.
    side = max(pixels.shape)
    found = [find_whole(find_ink(seen), min_size) for seen in (pixels, 255 - pixels)]
    judged = [judge(whole, side) for whole in found]
    least = _RIVAL * max(map(_value, judged))
    for which, whole in enumerate(found):
        if _value(judged[which]) >= least:
            judged[which] = judge([*whole, *find_cut_and_joined(whole)], side)
    if not any(odds > LIKELY for digits in judged for _, odds in digits):
        whole = find_whole(find_other_colour(pixels), min_size)
        judged.append(judge([*whole, *find_cut_and_joined(whole)], side))
    if best := max(judged, key=_value):
        return [digit for digit, _ in best]
    alone = [each for each in chain(*found) if each.levels > 1 and each.at_border < _SURROUNDS]
    return sorted(alone, key=lambda each: each.height * each.strength)[-1:]


def _value(judged: Sequence[tuple[Component, float]]) -> float:
    # The odds by their softplus, nearly 0 for what is unlikely, and the height: a hole is smaller than its digit.
    return float(sum(np.logaddexp(0, odds) * digit.height for digit, odds in judged))


def resize(picture: Image.Image) -> tuple[Image.Image, float]:
    """Return a picture at the size at which digits are found, and how much larger it is made."""
    scale = min(max(max(picture.size), _SIDES[0]), _SIDES[1]) / max(picture.size)
    size = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)
    return picture, scale


def _lines(components: Sequence[Component]) -> list[list[Component]]:
    # In reading order, each line from the left. Numbers in two columns are further apart than the digits of a number.
    lines: list[list[Component]] = []
    for component in sorted(components, key=lambda component: component.box[1] + component.box[3]):
        for line in lines:
            nearest = min(line, key=lambda each: abs(each.box[0] + each.box[2] - component.box[0] - component.box[2]))
            common = min(component.box[3], nearest.box[3]) - max(component.box[1], nearest.box[1])
            if common > 0.4 * min(component.height, nearest.height):
                line.append(component)
                break
        else:
            lines.append([component])
    numbers = []
    for line in lines:
        line.sort(key=lambda component: component.box[0])
        gap = _MAX_GAP * float(np.median([digit.height for digit in line]))
        numbers.append(line[:1])
        for before, digit in pairwise(line):
            if digit.box[0] - before.box[2] > gap:
                numbers.append([])
            numbers[-1].append(digit)
    return numbers
