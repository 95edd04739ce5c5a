"""Choice: which figures are digits, and which ink they have."""

from collections.abc import Sequence

import numpy as np

from mnist_lit.pictures.figures import Figure, find_figures, gap, join, walk
from mnist_lit.pictures.ink import Floats, Pixels, find_ink, find_other_colour
from mnist_lit.pictures.refinement import WIDE, refine, without_frames
from mnist_lit.pictures.value import DIGIT, SHADES, SIZES, STABLE, TURNED, UNLIKE, has_digit, rate, value_of

_MOST = 300  # figures that are rated, the largest
_RIVAL = 0.5  # of the value of the digits in one ink: below, those in the other ink are not refined
_SMALL = 0.5  # of the size of a group's most valuable digit: below, the letters of a word
_COUNT = 0.6  # exponent of the height in a group's value: three digits are more than one large figure
_FAINT = 0.3  # strength that the noise of paper does not have
_BESIDE = 1.5  # digit's heights to a digit, of a figure that may be one
_PAPER = 0.05  # of the value of figures in the colour around them: they are paper between digits


def choose_digits(pixels: Pixels, least: float) -> tuple[list[Figure], Floats]:
    """Return the digits of a picture, in dark or in light ink, with figures that may be digits, and the ink.

    Args:
        pixels: RGB, uint8 ``(H, W, 3)``.
        least: Longer side of the smallest figure, in pixels.
    """
    inks = [find_ink(seen) for seen in (pixels, 255 - pixels)]
    found = [_find_digits(ink, least) for ink in inks]
    groups = [_of_one_size(figures) for figures in found]
    most = max((value for digits, value in groups if has_digit(digits)), default=0)
    for which, (digits, value) in enumerate(groups):
        if value > _RIVAL * most:  # the other ink is only what is between the digits
            groups[which] = _of_one_size(refine(found[which], digits, inks[which]))
    if not any(has_digit(digits) for digits, _ in groups):
        ink = find_other_colour(pixels)
        figures = _find_digits(ink, least)
        digits, _ = _of_one_size(figures)
        if any(figure.likeness > DIGIT and figure.at_border < 0.1 for figure in digits):
            return _of_one_size(refine(figures, digits, ink))[0], ink
    if all(any(figure.likeness > -0.9 for figure in digits) for digits, _ in groups):
        # Holes of digits, and the paper around them, may look like digits: one of the two groups is paper.
        around = _around(join(max(groups, key=lambda group: group[1])[0]), pixels)
        colours = [np.mean([_colour(figure, pixels) for figure in digits], axis=0) for digits, _ in groups]
        paper = int(np.argmin([np.linalg.norm(colour - around) for colour in colours]))
        groups[paper] = groups[paper][0], _PAPER * groups[paper][1]
    best = int(np.argmax([value for _, value in groups]))
    return groups[best][0], inks[best]


def _find_digits(ink: Floats, least: float) -> list[Figure]:
    # The figures that together are worth most.
    tree = find_figures(ink, least)
    large = sorted(walk(tree), key=lambda figure: figure.height * figure.strength, reverse=True)[:_MOST]
    rated = set(rate(large, ink))
    return [figure for root in tree for figure in _best(root) if figure in rated]


def _best(figure: Figure) -> list[Figure]:
    # The figure, or what it falls into if that is worth more.
    parts = [digit for part in figure.parts for digit in _best(part)]
    return parts if sum(map(value_of, parts)) > value_of(figure) else [figure]


def _of_one_size(figures: Sequence[Figure]) -> tuple[list[Figure], float]:
    # The best group of figures of about one size and strength, upright or turned, and its value.
    digits = [
        figure
        for figure in without_frames(figures)
        # An edge of paper or a ruled line is like a 1, at one threshold only.
        if figure.image is not None
        and figure.width < WIDE * figure.height
        and (figure.levels > 1 or figure.width > 0.4 * figure.height)
    ]
    best: list[Figure] = []
    most = 0.0
    groups = {figure: [each for each in digits if _are_alike(each, figure)] for figure in digits}
    for name, weight in ("likeness", 1), ("turned", TURNED):
        likenesses = {figure: float(getattr(figure, name)) for figure in digits}
        for figure, alike in groups.items():
            values = {each: value_of(each, likenesses[each]) for each in alike if likenesses[each] > 0}
            total = weight * sum(value * each.height ** (_COUNT - 1) for each, value in values.items())
            if figure.levels > 1 and total > most:
                first = max(values, key=lambda each: values[each])
                group = [each for each in groups[first] if _size(each) > _SMALL * _size(first)]
                sure = [each for each in group if likenesses[each] > DIGIT]
                best = [
                    each
                    for each in group
                    if each in sure or (each.levels > 1 and any(_is_beside(each, digit) for digit in sure))
                ]
                most = total
    drawn = [each for each in figures if each.image is not None and (each.levels > 1 or each.strength > _FAINT)]
    if not best and drawn:  # no digit: the largest figure, and those like it
        largest = max(drawn, key=lambda each: (each.levels >= STABLE, each.height * each.strength))
        alike = [each for each in digits if each.levels > 1 and _are_alike(each, largest)]
        best = alike if largest in alike else [largest]
        most = (1 if largest.likeness > DIGIT else UNLIKE) * value_of(largest) * largest.height ** (_COUNT - 1)
    return best, most


def _size(figure: Figure) -> float:
    return max(figure.height, 0.6 * figure.width)


def _are_alike(one: Figure, other: Figure) -> bool:
    is_as_high = SIZES[0] < _size(one) / _size(other) < SIZES[1]
    return is_as_high and SHADES[0] < one.strength / other.strength < SHADES[1]


def _is_beside(figure: Figure, digit: Figure) -> bool:
    common = min(figure.box[3], digit.box[3]) - max(figure.box[1], digit.box[1])
    is_in_line = common > 0.5 * min(figure.height, digit.height)
    return is_in_line and gap(figure, digit) < _BESIDE * digit.height


def _around(figure: Figure, pixels: Pixels) -> Floats:
    # The median colour of its box with a rim.
    (left, top, right, bottom), rim = figure.box, figure.height // 4
    return np.asarray(
        np.median(pixels[max(0, top - rim) : bottom + rim, max(0, left - rim) : right + rim].reshape(-1, 3), axis=0)
    )


def _colour(figure: Figure, pixels: Pixels) -> Floats:
    left, top, right, bottom = figure.box
    return np.asarray(pixels[top:bottom, left:right][figure.mask].mean(axis=0))
