"""Candidates: the figures of about the same size, at the threshold that shows them best."""

from collections.abc import Container, Sequence
from itertools import compress, pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from mnist_lit.pictures.figures import Figure, find_figures
from mnist_lit.pictures.ink import Floats

_THRESHOLDS = (0.6, 0.5, 0.4, 0.32, 0.25, 0.2, 0.15, 0.11)  # of ink, which is from 0 to 1


def find_candidates(ink: Floats) -> list[list[Figure]]:
    """Return the figures that could be digits: without figures at the border, and also with them if there are any.

    The chosen threshold leaves the most ink in figures of about the same size, and the largest figure is nearly the
    same at the next threshold: a shadow is not. Figures less than 0.4 times as high as the tallest are left out.
    """
    noise = 2 * 1.48 * float(np.median(np.abs(ink - cv2.GaussianBlur(ink, (0, 0), 2))))
    levels = [list(find_figures(ink, threshold)) for threshold in _THRESHOLDS if threshold >= 4 * noise]
    stable = _find_stable(levels)
    chosen: list[list[Figure]] = []
    for with_border in False, True:
        groups = [
            _of_one_size([figure for figure in level if with_border or not figure.is_at_border], stable)
            for level in levels
        ]
        best: list[Figure] = []
        for group in [group for group in groups if stable.intersection(group[:1])] or groups:
            if _total(group) > 1.1 * _total(best):  # prefer a higher threshold: fewer figures touch
                best = group
        figures = _merge(best)
        chosen.append([figure for figure in figures if figure.height > 0.4 * max(each.height for each in figures)])
    inner, outer = chosen
    return [inner, outer] if any(figure.is_at_border for figure in outer) else [inner]


def overlap(start: int, end: int, other_start: int, other_end: int) -> int:
    """Return the length that two intervals have in common."""
    return max(0, min(end, other_end) - max(start, other_start))


def _find_stable(levels: Sequence[Sequence[Figure]]) -> set[Figure]:
    # Figures that are nearly the same at the next threshold (maximally stable extremal regions: Matas, Chum, Urban
    # and Pajdla, "Robust wide baseline stereo", 2002).
    stable: set[Figure] = set()
    for pair in pairwise(levels):
        boxes = [torch.tensor([each.box for each in figures]).reshape(-1, 4) for figures in pair]
        is_alike = _box_iou(*boxes) > 0.7
        for figures, dim in zip(pair, (1, 0), strict=True):
            stable.update(compress(figures, is_alike.any(dim=dim)))
    return stable


def _box_iou(one: Tensor, other: Tensor) -> Tensor:
    # Intersection over union, (N, M). torchvision has the same, but importing it takes longer than reading a picture.
    sides = torch.minimum(one[:, None, 2:], other[:, 2:]) - torch.maximum(one[:, None, :2], other[:, :2])
    common = sides.clamp(min=0).prod(dim=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (one, other)]
    return common / (areas[0][:, None] + areas[1] - common)


def _total(figures: Sequence[Figure]) -> float:
    return sum(figure.ink for figure in figures if not figure.is_wide)


def _of_one_size(figures: Sequence[Figure], stable: Container[Figure]) -> list[Figure]:
    # The stable figure with most ink, and then the figures about as large and as dark.
    whole = [figure for figure in figures if not figure.is_wide]
    if not whole:
        return []
    largest = max(whole, key=lambda figure: (figure in stable, figure.strength * figure.ink))
    alike = [
        figure
        for figure in figures
        if figure.strength > 0.5 * largest.strength and 0.15 < figure.size / largest.size < 1.7
    ]
    return sorted(alike, key=lambda figure: figure is not largest)


def _merge(figures: Sequence[Figure]) -> list[Figure]:
    # Joins the parts of a digit, one above the other, such as the bar of a 5, but not a line below a number.
    digits: list[Figure] = []
    for part in sorted(figures, key=lambda figure: (figure.is_wide, -figure.mask.size)):
        for index, digit in enumerate(digits):
            gap = max(part.top, digit.top) - min(part.bottom, digit.bottom)
            height = max(part.bottom, digit.bottom) - min(part.top, digit.top)
            is_below = part.top + part.bottom > 2 * digit.bottom - 0.3 * digit.height
            if part.is_wide and (is_below or part.width > 2 * max(digit.width, 0.5 * digit.height)):
                continue
            if (
                overlap(part.left, part.right, digit.left, digit.right) > 0.5 * min(part.width, digit.width)
                and gap < 0.3 * digit.height
                and height < 1.6 * max(digit.height, 0.6 * digit.width)
            ):
                digits[index] = digit | part
                break
        else:
            if not part.is_wide:
                digits.append(part)
    return digits
