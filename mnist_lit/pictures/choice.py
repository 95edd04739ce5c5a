"""Choice: which components are digits, and which ink they have."""

from collections.abc import Sequence

import numpy as np

from mnist_lit.pictures.components import Component, find_components, join, walk
from mnist_lit.pictures.context import judge
from mnist_lit.pictures.ink import Floats, Pixels, find_ink, find_other_colour
from mnist_lit.pictures.refinement import WIDE, refine, without_frames
from mnist_lit.pictures.value import DIGIT, STABLE, UNLIKE, has_digit, rate, value_of

_MAX_RATED = 300  # components, the largest
_RIVAL = 0.5  # of the value of the digits in one ink: below, those in the other ink are not refined
_COUNT = 0.6  # exponent of the height in the value of digits: three digits are more than one large component
_FAINT = 0.3  # strength that the noise of paper does not have
_PAPER = 0.05  # of the value of components in the colour around them: they are paper between digits


def choose_digits(pixels: Pixels, min_size: float) -> tuple[list[Component], Floats]:
    """Return the digits of a picture, in dark or in light ink, and the ink; if there are none, what is largest.

    Args:
        pixels: RGB, uint8 ``(H, W, 3)``.
        min_size: Longer side of the smallest component, in pixels.
    """
    inks, side = [find_ink(seen) for seen in (pixels, 255 - pixels)], max(pixels.shape)
    found = [find_candidates(ink, min_size) for ink in inks]
    of_inks = [_digits_of(components, side) for components in found]
    most = max((value for digits, value in of_inks if has_digit(digits)), default=0)
    for which, (digits, value) in enumerate(of_inks):
        if value > _RIVAL * most:  # the other ink is only what is between the digits
            of_inks[which] = _digits_of(refine(found[which], digits, inks[which]), side)
    if not any(has_digit(digits) for digits, _ in of_inks):
        ink = find_other_colour(pixels)
        components = find_candidates(ink, min_size)
        digits, _ = _digits_of(components, side)
        if any(component.likeness > DIGIT and component.at_border < 0.1 for component in digits):
            return _digits_of(refine(components, digits, ink), side)[0], ink
    if all(any(component.likeness > -0.9 for component in digits) for digits, _ in of_inks):
        # Holes of digits, and the paper around them, may look like digits: one of the two is paper.
        around = _around(join(max(of_inks, key=lambda one: one[1])[0]), pixels)
        colours = [np.mean([_colour(component, pixels) for component in digits], axis=0) for digits, _ in of_inks]
        paper = int(np.argmin([np.linalg.norm(colour - around) for colour in colours]))
        of_inks[paper] = of_inks[paper][0], _PAPER * of_inks[paper][1]
    best = int(np.argmax([value for _, value in of_inks]))
    return of_inks[best][0], inks[best]


def find_candidates(ink: Floats, min_size: float) -> list[Component]:
    """Return the components that together are worth most: each whole, or what it falls into.

    Args:
        ink: ``(H, W)`` in [0, 1].
        min_size: Longer side of the smallest component, in pixels.
    """
    tree = find_components(ink, min_size)
    large = sorted(walk(tree), key=lambda component: component.height * component.strength, reverse=True)[:_MAX_RATED]
    rated = set(rate(large, ink))
    return [component for root in tree for component in _best(root) if component in rated]


def without_marks(components: Sequence[Component]) -> list[Component]:
    """Return the components that may be digits: without frames, ruled lines, and what has no image."""
    return [
        component
        for component in without_frames(components)
        if component.image is not None and component.width < WIDE * component.height
    ]


def _best(component: Component) -> list[Component]:
    # The component, or what it falls into if that is worth more.
    parts = [digit for part in component.parts for digit in _best(part)]
    return parts if sum(map(value_of, parts)) > value_of(component) else [component]


def _digits_of(components: Sequence[Component], longer_side: int) -> tuple[list[Component], float]:
    # The digits among components, and their value; if there are none, the largest component.
    candidates = without_marks(components)
    is_digit = judge(candidates, longer_side)
    if digits := [each for each, is_one in zip(candidates, is_digit, strict=True) if is_one]:
        return digits, sum(value_of(each) * each.height ** (_COUNT - 1) for each in digits)
    drawn = [each for each in components if each.image is not None and (each.levels > 1 or each.strength > _FAINT)]
    if not drawn:
        return [], 0
    largest = max(drawn, key=lambda each: (each.levels >= STABLE, each.height * each.strength))
    factor = 1 if largest.likeness > DIGIT else UNLIKE
    return [largest], factor * value_of(largest) * largest.height ** (_COUNT - 1)


def _around(component: Component, pixels: Pixels) -> Floats:
    # The median colour of its box with a rim.
    (left, top, right, bottom), rim = component.box, component.height // 4
    return np.asarray(
        np.median(pixels[max(0, top - rim) : bottom + rim, max(0, left - rim) : right + rim].reshape(-1, 3), axis=0)
    )


def _colour(component: Component, pixels: Pixels) -> Floats:
    left, top, right, bottom = component.box
    return np.asarray(pixels[top:bottom, left:right][component.mask].mean(axis=0))
