"""Refinement: digits are freed from lines, cut where they touch, and joined where the pen has broken them."""

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np

from mnist_lit.pictures.components import Component, gap, join
from mnist_lit.pictures.ink import Floats
from mnist_lit.pictures.value import TURNED, rate, value_of

# Lengths are in parts of a digit's height.
_SIZES = 0.45, 2.2  # heights, smallest and largest
_SHADE = 0.6  # of the stronger part's strength: fainter is not the same digit
_MAX_REFINED = 80  # components that are freed and cut; pairs that may be joined
WIDE = 2.2  # width of the widest digit: beyond are ruled lines and dashes
_FRAME = 0.3  # of a component's value times its likeness: what holds digits that are worth more is a frame
_SURE = 0.5, 0.8  # likeness of a part of touching digits, and of a narrow part: a V would be cut into 1s
_STEP, _NARROW, _BROAD = 0.16, 0.2, 1.2  # from cut to cut; widths of a part
_PEN_GAP, _TALLER = 0.25, 1.3  # where the pen has broken a digit; a digit counts more than two, one above the other


def refine(components: Sequence[Component], digits: Sequence[Component], ink: Floats) -> list[Component]:
    """Return the components about as high as some digits: freed from lines, cut, and joined where that makes digits."""
    heights = [digit.height for digit in digits]
    low, high = _SIZES[0] ** 2 * min(heights), _SIZES[1] * max(heights)
    components = [
        component
        for component in components
        if low < max(component.width, component.height) and component.height < high
    ]
    if len(components) <= _MAX_REFINED:
        components = without_frames(
            [digit for component in components for digit in _above_line(component, ink) or [component]]
        )
        components = _repair(
            [digit for component in components for digit in _cut(component, ink) if digit.image is not None], ink
        )
    return components


def without_frames(components: Sequence[Component]) -> list[Component]:
    """Return the components without frames: what holds digits that are worth a third of it, or more."""

    def held(component: Component) -> float:
        return sum(value_of(each) for each in components if each.likeness > 0.5 and component.holds(each))

    return [
        component
        for component in components
        if held(component) <= _FRAME * max(0, component.likeness) * value_of(component)
    ]


def _above_line(component: Component, ink: Floats) -> list[Component]:
    # The digits of a component that stand on a line. The line is what is lowest in nearly all columns.
    if component.likeness > 0 or component.width < 1.3 * component.height or component.height < 8:
        return []
    from_below, columns = component.mask[::-1], np.arange(component.width)
    rows = np.arange(component.height)[:, None]
    lowest = from_below.argmax(axis=0)
    line = np.polyval(np.polyfit(columns, lowest, 1), columns)
    width = float(np.median((~from_below & (rows > lowest)).argmax(axis=0) - lowest))
    if (abs(lowest - line) > 2 + 0.02 * component.height).mean() > 0.1 or width > 0.3 * component.height:
        return []
    above = (from_below & (rows > line + 1.2 * width))[::-1]
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8))
    # What is left of a comb without its line is a row of teeth, each like a 1.
    digits = [label for label in range(1, count) if statistics[label, 2] > 0.25 * statistics[label, 3]]
    tall = [component.crop(labels == label) for label in digits if statistics[label, 3] > 0.3 * component.height]
    return [digit for digit in rate(tall, ink) if digit.likeness > 0]


def _cut(component: Component, ink: Floats) -> list[Component]:
    # Digits that touch: the chain of parts, between columns with least ink, that is worth most.
    height, width = component.mask.shape
    if component.image is None or component.likeness > 0 or not 0.75 * height < width < 12 * height:
        return [component]
    columns, step = component.mask.sum(axis=0), max(2, round(_STEP * height))
    steps = range(step // 2, width - step // 2, step)
    cuts = [0, *(start + int(columns[start : start + step].argmin()) for start in steps), width]
    parts = {}
    for start, end in combinations(range(len(cuts)), 2):
        if _NARROW * height < cuts[end] - cuts[start] < _BROAD * height:
            mask = np.zeros_like(component.mask)
            mask[:, cuts[start] : cuts[end]] = component.mask[:, cuts[start] : cuts[end]]
            part = component.crop(mask)
            if part.height > 0.5 * height:
                parts[start, end] = part
    rate(list(parts.values()), ink)
    chains: list[tuple[float, list[Component]]] = [(0, []), *((-np.inf, list[Component]()) for _ in cuts[1:])]
    for (start, end), part in parts.items():
        value = chains[start][0] + value_of(part)
        if part.likeness > _SURE[part.width < 0.6 * part.height] and value > chains[end][0]:
            chains[end] = value, [*chains[start][1], part]
    value, chain = chains[-1]
    return chain if len(chain) > 1 and value > value_of(component) else [component]


def _repair(components: list[Component], ink: Floats) -> list[Component]:
    # Digits that the pen has broken: two components become one where that is worth more.
    while True:
        pairs = [pair for pair in combinations(components, 2) if _may_be_one(*pair)]
        if not 0 < len(pairs) <= _MAX_REFINED:
            return components
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
            return components
        components = [component for component in components if component not in pairs[best]] + [joined[best]]


def _may_be_one(one: Component, other: Component) -> bool:
    strengths = sorted((one.strength, other.strength))
    lower = max(one, other, key=lambda component: component.box[3])
    is_near = gap(one, other) < _PEN_GAP * max(one.height, other.height)
    return (
        is_near
        and strengths[0] > _SHADE * strengths[1]
        and lower.height > 0.2 * lower.width  # no underline
        and (_are_stacked(one, other) or min(one.likeness, other.likeness) < 0.9)
    )


def _are_stacked(one: Component, other: Component) -> bool:
    common = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    return common > 0.5 * min(one.width, other.width)
