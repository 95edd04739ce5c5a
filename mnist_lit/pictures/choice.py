"""Choice: which candidates are digits, and which ink they have."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from mnist_lit.pictures.candidates import find_cut_and_joined, find_whole
from mnist_lit.pictures.components import Component
from mnist_lit.pictures.context import judge
from mnist_lit.pictures.ink import Pixels, find_ink, find_other_colour

_RIVAL = 0.3  # of the value of the digits in one ink: below, the other ink is only what is between the digits


def choose_digits(pixels: Pixels, min_size: float) -> list[Component]:
    """Return the digits of a picture, in dark or in light ink; if there are none, the largest component.

    Args:
        pixels: RGB, uint8 ``(H, W, 3)``.
        min_size: Longer side of the smallest component, in pixels.
    """
    side = max(pixels.shape)
    found = [find_whole(find_ink(seen), min_size) for seen in (pixels, 255 - pixels)]
    judged = [judge(whole, side) for whole in found]
    least = _RIVAL * max(map(_value, judged))
    for which, whole in enumerate(found):
        if _value(judged[which]) >= least:
            judged[which] = judge([*whole, *find_cut_and_joined(whole)], side)
    if not any(odds > 0 for digits in judged for _, odds in digits):
        whole = find_whole(find_other_colour(pixels), min_size)
        judged.append(judge([*whole, *find_cut_and_joined(whole)], side))
    if best := max(judged, key=_value):
        return [digit for digit, _ in best]
    drawn = [each for each in chain(*found) if each.levels > 1]
    return sorted(drawn, key=lambda each: each.height * each.strength)[-1:]


def _value(judged: Sequence[tuple[Component, float]]) -> float:
    # The odds by their softplus, nearly 0 for what is unlikely, and the height: a hole is smaller than its digit.
    return float(sum(np.logaddexp(0, odds) * digit.height for digit, odds in judged))
