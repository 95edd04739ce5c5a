"""Candidates: everything in an ink that might be a digit, of which some overlap, each with its likeness to a digit."""

from collections.abc import Iterator, Sequence
from itertools import combinations, islice

import cv2
import numpy as np
import torch

from mnist_lit.pictures.components import Component, find_components, join, walk
from mnist_lit.pictures.ink import Floats
from mnist_lit.pictures.preparation import prepare
from mnist_lit.pictures.rejection import PART, SEVERAL, classify

_MAX_COMPONENTS = 300  # the largest
_MAX_JOINED = 60  # the nearest
_SURE = 0.9  # likeness of two components that are two digits
_MAX_CUT = 12  # components, the largest
_MAY_BE_SEVERAL = 0.01  # probability that a component that is cut is several digits

# Lengths are in parts of a component's height.
_PEN_GAP = 0.3  # where a pen has broken a digit
_SHADE = 0.5  # of the stronger one's strength: fainter is not the same digit
_STEP, _WIDTHS = 0.1, (0.2, 1.2)  # from cut to cut; of a part


def find_whole(ink: Floats, min_size: float) -> list[Component]:
    """Return the connected components of an ink that may be digits, the largest 300, some inside others.

    Args:
        ink: ``(H, W)`` in [0, 1].
        min_size: Longer side of the smallest component, in pixels.
    """
    return rate(sorted(walk(find_components(ink, min_size)), key=_size, reverse=True)[:_MAX_COMPONENTS])


def find_cut_and_joined(components: Sequence[Component]) -> list[Component]:
    """Return parts of components that are as wide as several digits, and two or three near components as one."""
    wide = [each for each in components if _is_wide(each) and not any(map(_is_wide, walk(each.parts)))]
    parts = [part for each in wide[:_MAX_CUT] for part in (*_above_line(each), *_cut(each))]
    pairs = rate([join(pair) for pair in islice(_near(components, components), _MAX_JOINED)])
    threes = {(each.box, each.area): each for each in map(join, islice(_near(pairs, components), _MAX_JOINED))}
    return parts + pairs + rate([*threes.values()])


def rate(components: list[Component]) -> list[Component]:
    """Give each component its image and what is known of it, and return them."""
    images = np.array([prepare(component) for component in components], np.float32).reshape(-1, 1, 28, 28)
    _, turned, classes = classify(torch.from_numpy(images))
    likeness = (2 * turned.sigmoid() - 1).tolist()
    for component, *known in zip(components, images[:, 0], classes.numpy(), likeness, strict=True):
        component.image, component.classes, component.turned = known
    return components


def _size(component: Component) -> float:
    return component.height * component.strength


def _near(ones: Sequence[Component], others: Sequence[Component]) -> Iterator[tuple[Component, Component]]:
    # Pairs of one and another that a pen may have broken apart, the nearest first.
    one, other = (
        np.array([(*each.box, each.strength * (each.levels > 1), each.likeness) for each in components]).reshape(-1, 6)
        for components in (ones, others)
    )
    one = one[:, None]
    heights = np.maximum(one[..., 3] - one[..., 1], other[:, 3] - other[:, 1])
    gaps = np.maximum(one[..., :2] - other[:, 2:4], other[:, :2] - one[..., 2:4]).max(axis=2) / heights
    fainter, darker = (choose(one[..., 4], other[:, 4]) for choose in (np.minimum, np.maximum))
    is_near = (gaps < _PEN_GAP) & (fainter > _SHADE * darker) & (np.minimum(one[..., 5], other[:, 5]) < _SURE)
    rows, columns = np.nonzero(np.triu(is_near, 1) if ones is others else is_near)
    for index in gaps[rows, columns].argsort(kind="stable"):
        pair = ones[rows[index]], others[columns[index]]
        if not pair[0].overlaps(pair[1]):
            yield pair


def _is_wide(component: Component) -> bool:
    # It may be several digits, and is not only wide because it holds digits.
    is_wide = 0.75 < component.width / component.height < 6 and component.classes[SEVERAL] > _MAY_BE_SEVERAL
    return bool(is_wide) and 2 * _width_of_digits(component) < component.width


def _width_of_digits(component: Component) -> int:
    is_digit = max(component.likeness, component.turned) > 0
    return component.width if is_digit else sum(map(_width_of_digits, component.parts))


def _cut(component: Component) -> list[Component]:
    # The most likely chain of digits, between columns with least ink.
    height, width = component.mask.shape
    columns, step = component.mask.sum(axis=0), max(2, round(_STEP * height))
    steps = range(step // 2, width - step // 2, step)
    cuts = [0, *(start + int(columns[start : start + step].argmin()) for start in steps), width]
    parts = {}
    for start, end in combinations(cuts, 2):
        if _WIDTHS[0] * height < end - start < _WIDTHS[1] * height:
            mask = component.mask.copy()
            mask[:, :start] = mask[:, end:] = False
            part = component.crop(mask)
            if part.height > 0.5 * height:
                parts[start, end] = part
    rate([*parts.values()])
    chains: dict[int, tuple[float, list[Component]]] = dict.fromkeys(cuts, (-np.inf, [])) | {0: (0, [])}
    for (start, end), part in parts.items():
        value, before = chains[start]
        value += part.width * float(np.log(part.classes[:PART].max() + 1e-6))
        if value > chains[end][0]:
            chains[end] = value, [*before, part]
    return chains[width][1]


def _above_line(component: Component) -> list[Component]:
    # What stands on a line. The line is what is lowest in nearly all columns.
    from_below, columns = component.mask[::-1], np.arange(component.width)
    rows = np.arange(component.height)[:, None]
    lowest = from_below.argmax(axis=0)
    line = np.polyval(np.polyfit(columns, lowest, 1), columns)
    width = float(np.median((~from_below & (rows > lowest)).argmax(axis=0) - lowest))
    if (abs(lowest - line) > 2 + 0.02 * component.height).mean() > 0.1 or not 0 < width < 0.3 * component.height:
        return []
    above = (from_below & (rows > line + 1.2 * width))[::-1]
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8))
    tall = [label for label in range(1, count) if statistics[label, 3] > 0.3 * component.height]
    return rate([component.crop(labels == label) for label in tall])
