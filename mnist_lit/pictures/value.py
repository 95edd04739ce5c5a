"""Value: how much figures are like digits, and what they are worth."""

from collections.abc import Sequence

import numpy as np
import torch

from mnist_lit.pictures.figures import Figure
from mnist_lit.pictures.ink import Floats
from mnist_lit.pictures.preparation import prepare
from mnist_lit.pictures.rejection import energy

_THIN = 0.04  # width of the thinnest 1, in parts of its height
_SURROUNDS = 3  # longer sides on the border: a frame, or the desk
UNLIKE = 0.1  # likeness that a figure is worth at least: a letter is better than its fragments, which are like 1s
STABLE = 3  # levels of a figure that counts in full
SIZES, SHADES = (0.45, 2.2), (0.6, 1.7)  # ratios of heights and of strengths in a group of digits
TURNED = 0.7  # of the value of a digit, if it is turned
DIGIT = -0.8  # likeness above which 98.5 % of MNIST's digits lie


def rate(figures: Sequence[Figure], ink: Floats) -> Sequence[Figure]:
    """Give each figure its image and its likeness to a digit, all at once, and return them."""
    drawn = []
    for figure in figures:
        if figure.width >= _THIN * figure.height and figure.at_border < _SURROUNDS:
            figure.image = prepare(figure, ink)
            if figure.image is not None:
                drawn.append(figure)
    if drawn:
        images = torch.from_numpy(np.stack([figure.image for figure in drawn if figure.image is not None]))[:, None]
        upright, *turned = (2 * energy(images.rot90(turns, (2, 3))).sigmoid() - 1 for turns in (0, 1, 3))
        for figure, one, other in zip(drawn, upright.tolist(), torch.maximum(*turned).tolist(), strict=True):
            figure.likeness, figure.turned = one, other
    return figures


def has_digit(figures: Sequence[Figure]) -> bool:
    """Return whether one of the figures is rather a digit than not, upright or turned."""
    return any(max(figure.likeness, figure.turned) > 0 for figure in figures)


def value_of(figure: Figure, likeness: float | None = None) -> float:
    """Return what a figure is worth: its height, times its strength, times its likeness or another one.

    It is less for a figure at the border, and for one that is found at one or two thresholds only.
    """
    like = max(UNLIKE, figure.likeness if likeness is None else likeness)
    inside = max(0.1, 1 - 0.9 * figure.at_border)  # what the border cuts is rather a desk than a digit
    return figure.height * figure.strength * like * inside * min(1, figure.levels / STABLE)
