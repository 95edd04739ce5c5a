"""Choice: which candidates are digits, and which ink they have."""

from collections.abc import Sequence

import numpy as np

from mnist_lit.pictures.candidates import find_cut_and_joined, find_whole
from mnist_lit.pictures.components import Component
from mnist_lit.pictures.context import judge
from mnist_lit.pictures.ink import Floats, Pixels, find_ink, find_other_colour

_RIVAL = 0.3  # of the value of the digits in one ink: below, the other ink is only what is between the digits


def choose_digits(pixels: Pixels, min_size: float) -> tuple[list[Component], Floats]:
    """Return the digits of a picture, in dark or in light ink, and the ink; if there are none, the largest component.

    Args:
        pixels: RGB, uint8 ``(H, W, 3)``.
        min_size: Longer side of the smallest component, in pixels.
    """
    side, inks = max(pixels.shape), [find_ink(pixels), find_ink(255 - pixels)]
    found = [find_whole(ink, min_size) for ink in inks]
    judged = [judge(components, side) for components in found]
    least = _RIVAL * max(map(_value, judged))
    for which, ink in enumerate(inks):
        if _value(judged[which]) >= least:
            judged[which] = judge([*found[which], *find_cut_and_joined(found[which], ink)], side)
    if not any(odds > 0 for digits in judged for _, odds in digits):
        inks.append(find_other_colour(pixels))
        found.append(find_whole(inks[-1], min_size))
        judged.append(judge([*found[-1], *find_cut_and_joined(found[-1], inks[-1])], side))
    best = max(range(len(inks)), key=lambda which: _value(judged[which]))
    if judged[best]:
        return [digit for digit, _ in judged[best]], inks[best]
    drawn = [
        (each, ink) for components, ink in zip(found[:2], inks, strict=False) for each in components if each.levels > 1
    ]
    largest, ink = max(drawn, key=lambda each: each[0].height * each[0].strength, default=(None, inks[0]))
    return [largest] if largest else [], ink


def _value(judged: Sequence[tuple[Component, float]]) -> float:
    # The odds by their softplus, nearly 0 for what is unlikely, and the height: a hole is smaller than its digit.
    return float(sum(np.logaddexp(0, odds) * digit.height for digit, odds in judged))
