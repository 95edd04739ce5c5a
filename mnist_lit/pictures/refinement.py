"""Refinement: digits are freed from lines, cut where they touch, and joined where the pen has broken them."""

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np

from mnist_lit.pictures.figures import Figure, gap, join
from mnist_lit.pictures.ink import Floats
from mnist_lit.pictures.value import SHADES, SIZES, TURNED, rate, value_of

# Lengths are in parts of a digit's height.
_FEW = 80  # figures that are freed and cut; pairs that may be joined
WIDE = 2.2  # width of the widest digit: beyond are ruled lines and dashes
_FRAME = 0.3  # of a figure's value times its likeness: what holds digits that are worth more is a frame
_SURE = 0.5, 0.8  # likeness of a part of touching digits, and of a narrow part: a V would be cut into 1s
_STEP, _NARROW, _BROAD = 0.16, 0.2, 1.2  # from cut to cut; widths of a part
_PEN_GAP, _TALLER = 0.25, 1.3  # where the pen has broken a digit; a digit counts more than two, one above the other


def refine(figures: Sequence[Figure], digits: Sequence[Figure], ink: Floats) -> list[Figure]:
    """Return the figures about as high as some digits: freed from lines, cut, and joined where that makes digits."""
    heights = [digit.height for digit in digits]
    low, high = SIZES[0] ** 2 * min(heights), SIZES[1] * max(heights)
    figures = [figure for figure in figures if low < max(figure.width, figure.height) and figure.height < high]
    if len(figures) <= _FEW:
        figures = without_frames([digit for figure in figures for digit in _above_line(figure, ink) or [figure]])
        figures = _repair([digit for figure in figures for digit in _cut(figure, ink) if digit.image is not None], ink)
    return figures


def without_frames(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures without frames: what holds digits that are worth a third of it, or more."""

    def held(figure: Figure) -> float:
        return sum(value_of(each) for each in figures if each.likeness > 0.5 and figure.holds(each))

    return [figure for figure in figures if held(figure) <= _FRAME * max(0, figure.likeness) * value_of(figure)]


def _above_line(figure: Figure, ink: Floats) -> list[Figure]:
    # The digits of a figure that stand on a line. The line is what is lowest in nearly all columns.
    if figure.likeness > 0 or figure.width < 1.3 * figure.height or figure.height < 8:
        return []
    from_below, columns = figure.mask[::-1], np.arange(figure.width)
    rows = np.arange(figure.height)[:, None]
    lowest = from_below.argmax(axis=0)
    line = np.polyval(np.polyfit(columns, lowest, 1), columns)
    width = float(np.median((~from_below & (rows > lowest)).argmax(axis=0) - lowest))
    if (abs(lowest - line) > 2 + 0.02 * figure.height).mean() > 0.1 or width > 0.3 * figure.height:
        return []
    above = (from_below & (rows > line + 1.2 * width))[::-1]
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8))
    # What is left of a comb without its line is a row of teeth, each like a 1.
    digits = [label for label in range(1, count) if statistics[label, 2] > 0.25 * statistics[label, 3]]
    tall = [figure.crop(labels == label) for label in digits if statistics[label, 3] > 0.3 * figure.height]
    return [digit for digit in rate(tall, ink) if digit.likeness > 0]


def _cut(figure: Figure, ink: Floats) -> list[Figure]:
    # Digits that touch: the chain of parts, between columns with least ink, that is worth most.
    height, width = figure.mask.shape
    if figure.image is None or figure.likeness > 0 or not 0.75 * height < width < 12 * height:
        return [figure]
    columns, step = figure.mask.sum(axis=0), max(2, round(_STEP * height))
    steps = range(step // 2, width - step // 2, step)
    cuts = [0, *(start + int(columns[start : start + step].argmin()) for start in steps), width]
    parts = {}
    for start, end in combinations(range(len(cuts)), 2):
        if _NARROW * height < cuts[end] - cuts[start] < _BROAD * height:
            mask = np.zeros_like(figure.mask)
            mask[:, cuts[start] : cuts[end]] = figure.mask[:, cuts[start] : cuts[end]]
            part = figure.crop(mask)
            if part.height > 0.5 * height:
                parts[start, end] = part
    rate(list(parts.values()), ink)
    chains: list[tuple[float, list[Figure]]] = [(0, []), *((-np.inf, list[Figure]()) for _ in cuts[1:])]
    for (start, end), part in parts.items():
        value = chains[start][0] + value_of(part)
        if part.likeness > _SURE[part.width < 0.6 * part.height] and value > chains[end][0]:
            chains[end] = value, [*chains[start][1], part]
    value, chain = chains[-1]
    return chain if len(chain) > 1 and value > value_of(figure) else [figure]


def _repair(figures: list[Figure], ink: Floats) -> list[Figure]:
    # Digits that the pen has broken: two figures become one where that is worth more.
    while True:
        pairs = [pair for pair in combinations(figures, 2) if _may_be_one(*pair)]
        if not 0 < len(pairs) <= _FEW:
            return figures
        joined = rate([join(pair) for pair in pairs], ink)
        gains = [
            value_of(one, max(one.likeness, (gap(*pair) < 0) * TURNED * one.turned))
            * (_TALLER if _are_stacked(*pair) else 1)
            * (one.width < WIDE * one.height)  # not a digit with an underline
            - sum(map(value_of, pair))
            for one, pair in zip(joined, pairs, strict=True)
        ]
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            return figures
        figures = [figure for figure in figures if figure not in pairs[best]] + [joined[best]]


def _may_be_one(one: Figure, other: Figure) -> bool:
    strengths = sorted((one.strength, other.strength))
    lower = max(one, other, key=lambda figure: figure.box[3])
    is_near = gap(one, other) < _PEN_GAP * max(one.height, other.height)
    return (
        is_near
        and strengths[0] > SHADES[0] * strengths[1]
        and lower.height > 0.2 * lower.width  # no underline
        and (_are_stacked(one, other) or min(one.likeness, other.likeness) < 0.9)
    )


def _are_stacked(one: Figure, other: Figure) -> bool:
    common = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    return common > 0.5 * min(one.width, other.width)
