"""Value: how much components are like digits, and what they are worth."""

from collections.abc import Sequence

import numpy as np
import torch

from mnist_lit.pictures.components import Component
from mnist_lit.pictures.ink import Floats
from mnist_lit.pictures.preparation import prepare
from mnist_lit.pictures.rejection import energy

_THIN = 0.04  # width of the thinnest 1, in parts of its height
_SURROUNDS = 3  # longer sides on the border: a frame, or the desk
UNLIKE = 0.1  # likeness that a component is worth at least: a letter is better than its fragments, which are like 1s
STABLE = 3  # levels of a component that counts in full
TURNED = 0.7  # of the value of a digit, if it is turned
DIGIT = -0.8  # likeness above which 98.5 % of MNIST's digits lie


def rate(components: Sequence[Component], ink: Floats) -> Sequence[Component]:
    """Give each component its image and its likeness to a digit, all at once, and return them."""
    drawn = []
    for component in components:
        if component.width >= _THIN * component.height and component.at_border < _SURROUNDS:
            component.image = prepare(component, ink)
            if component.image is not None:
                drawn.append(component)
    if drawn:
        images = torch.from_numpy(np.stack([each.image for each in drawn if each.image is not None])).unsqueeze(1)
        upright, *turned = (2 * energy(images.rot90(turns, (2, 3))).sigmoid() - 1 for turns in (0, 1, 3))
        for component, one, other in zip(drawn, upright.tolist(), torch.maximum(*turned).tolist(), strict=True):
            component.likeness, component.turned = one, other
    return components


def has_digit(components: Sequence[Component]) -> bool:
    """Return whether one of the components is rather a digit than not, upright or turned."""
    return any(max(component.likeness, component.turned) > 0 for component in components)


def value_of(component: Component, likeness: float | None = None) -> float:
    """Return what a component is worth: its height, times its strength, times its likeness or another one.

    It is less for a component at the border, and for one that is found at one or two thresholds only.
    """
    like = max(UNLIKE, component.likeness if likeness is None else likeness)
    inside = max(0.1, 1 - 0.9 * component.at_border)  # what the border cuts is rather a desk than a digit
    return component.height * component.strength * like * inside * min(1, component.levels / STABLE)
