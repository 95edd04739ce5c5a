"""Choice: which figures are digits, decided by how much each one is like a digit."""

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
import torch

from mnist_lit.pictures.figures import Figure, Mask, find_figures, gap, join, walk
from mnist_lit.pictures.ink import Floats, Pixels, find_ink, find_other_colour
from mnist_lit.pictures.preparation import prepare
from mnist_lit.pictures.rejection import energy

# Lengths are in parts of a digit's height.
_MOST, _FEW = 300, 80  # figures that are rated, the largest; figures of which some are joined and cut
_RIVAL = 0.5  # of the value of the digits in one ink: below, those in the other ink are not refined
_THIN, _WIDE = 0.04, 2.2  # width of the thinnest 1 and of the widest digit: beyond are ruled lines and dashes
_UNLIKE = 0.1  # likeness that a figure is worth at least: a letter is better than its fragments, which are like 1s
_STABLE = 3  # levels of a figure that counts in full
_SURROUNDS = 3  # longer sides on the border: a frame, or the desk
_HELD = 0.12  # height of digits that make a frame of what holds them
_PEN_GAP, _TALLER = 0.25, 1.3  # where the pen has broken a digit; a digit counts more than two, one above the other
_SLANTS = 0, 0.4  # of the cuts between touching digits: tangents
_SURE = 0.5, 0.8  # likeness of a part of touching digits, and of a narrow part: a V would be cut into 1s
_STEP, _NARROW, _BROAD, _CUT = 0.16, 0.2, 1.2, 0.3  # from cut to cut; width of a part; what a cut costs
_SIZES, _SHADES = (0.45, 2.2), (0.6, 1.7)  # heights and strengths of a group
_COUNT = 0.6  # exponent of the height in a group's value: three digits are more than one large figure
_FAINT = 0.3  # strength that the noise of paper does not have
DIGIT = -0.8  # likeness at which a hundredth of MNIST's digits are refused
_TURNED = 0.7  # of the value of a digit, if it is turned
_BESIDE = 1.5  # gap to a digit, of a figure that may be one
_PAPER = 0.05  # value of digits in the colour of most pixels, compared with those in the other ink


def choose_digits(pixels: Pixels, least: float) -> tuple[list[Figure], Floats]:
    """Return the digits of a picture, in dark or in light ink, with figures that may be digits, and the ink.

    Args:
        pixels: RGB, uint8 ``(H, W, 3)``.
        least: Longer side of the smallest figure, in pixels.
    """
    inks = [find_ink(seen) for seen in (pixels, 255 - pixels)]
    found = [_find_digits(ink, least) for ink in inks]
    groups = [_of_one_size(figures) for figures in found]
    most = max((value for digits, value in groups if _has_digit(digits)), default=0)
    for which, (digits, value) in enumerate(groups):
        if value > _RIVAL * most:  # the other ink is only what is between the digits
            found[which] = _refine(found[which], digits, inks[which])
    groups = [_of_one_size(figures) for figures in found]
    if not any(_has_digit(digits) for digits, _ in groups):
        ink = find_other_colour(pixels)
        figures = _find_digits(ink, least)
        group = _of_one_size(figures)
        if any(figure.likeness > DIGIT and figure.at_border < 0.1 for figure in group[0]):
            return group[0], ink
    if all(any(figure.likeness > -0.9 for figure in digits) for digits, _ in groups):
        # Holes of digits, and the paper around them, may look like digits: one of the two groups is paper.
        around = _around(join(max(groups, key=lambda group: group[1])[0]), pixels)
        colours = [np.mean([_colour(figure, pixels) for figure in digits], axis=0) for digits, _ in groups]
        paper = int(np.argmin([np.linalg.norm(colour - around) for colour in colours]))
        groups[paper] = groups[paper][0], _PAPER * groups[paper][1]
    best = int(np.argmax([value for _, value in groups]))
    return groups[best][0], inks[best]


def rate(figures: Sequence[Figure], ink: Floats) -> Sequence[Figure]:
    """Give each figure its image and its likeness to a digit, all at once, and return them."""
    drawn = []
    for figure in figures:
        if figure.width >= _THIN * figure.height and figure.at_border < _SURROUNDS:
            figure.image = prepare(figure, ink)
            drawn += [figure] if figure.image is not None else []
    if drawn:
        images = torch.from_numpy(np.stack([figure.image for figure in drawn if figure.image is not None]))[:, None]
        upright, *turned = (2 * energy(images.rot90(turns, (2, 3))).sigmoid() - 1 for turns in (0, 1, 3))
        for figure, one, other in zip(drawn, upright.tolist(), torch.maximum(*turned).tolist(), strict=True):
            figure.likeness, figure.turned = one, other
    return figures


def _has_digit(figures: Sequence[Figure]) -> bool:
    return any(max(figure.likeness, figure.turned) > 0 for figure in figures)


def _value(figure: Figure, likeness: float | None = None) -> float:
    like = max(_UNLIKE, figure.likeness if likeness is None else likeness)
    inside = max(0.1, 1 - 0.9 * figure.at_border)  # what the border cuts is rather a desk than a digit
    return figure.height * figure.strength * like * inside * min(1, figure.levels / _STABLE)


def _find_digits(ink: Floats, least: float) -> list[Figure]:
    # The figures that together are worth most.
    tree = find_figures(ink, least)
    large = sorted(walk(tree), key=lambda figure: figure.height * figure.strength, reverse=True)[:_MOST]
    rated = set(rate(large, ink))
    return [figure for root in tree for figure in _best(root) if figure in rated]


def _refine(figures: Sequence[Figure], digits: Sequence[Figure], ink: Floats) -> list[Figure]:
    # The figures as high as some digits: freed from lines, cut and joined where that makes digits of them.
    heights = [digit.height for digit in digits]
    low, high = _SIZES[0] ** 2 * min(heights), _SIZES[1] * max(heights)
    figures = [figure for figure in figures if low < max(figure.width, figure.height) and figure.height < high]
    if len(figures) <= _FEW:
        figures = _without_frames([digit for figure in figures for digit in _above_line(figure, ink) or [figure]])
        figures = _repair([digit for figure in figures for digit in _cut(figure, ink) if digit.image is not None], ink)
    return figures


def _best(figure: Figure) -> list[Figure]:
    # The figure, or what it falls into if that is worth more.
    parts = [digit for part in figure.parts for digit in _best(part)]
    return parts if sum(map(_value, parts)) > _value(figure) else [figure]


def _without_frames(figures: Sequence[Figure]) -> list[Figure]:
    # Without what holds digits that are worth more.
    def held(figure: Figure) -> float:
        digits = (each for each in figures if each.likeness > 0.5 and each.height > _HELD * figure.height)
        return sum(_value(each) for each in digits if figure.holds(each))

    return [figure for figure in figures if held(figure) <= max(0, figure.likeness) * _value(figure)]


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
    # Digits that touch: the chain of parts, between parallel cuts where there is least ink, that is worth most.
    if figure.image is None or figure.likeness > 0 or not 0.75 * figure.height < figure.width < 12 * figure.height:
        return [figure]
    best = [figure]
    for slant in _SLANTS:
        cuts = [np.full(figure.height, -np.inf), *_cuts(figure.mask, slant), np.full(figure.height, np.inf)]
        middles = [min(max(0, cut.mean()), figure.width) for cut in cuts]
        columns, parts = np.arange(figure.width), {}
        for start, end in combinations(range(len(cuts)), 2):
            if _NARROW * figure.height < middles[end] - middles[start] < _BROAD * figure.height:
                mask = figure.mask & (columns >= cuts[start][:, None]) & (columns < cuts[end][:, None])
                if mask.any():
                    part = figure.crop(mask)
                    parts.update({(start, end): part} if part.height > 0.5 * figure.height else {})
        rate(list(parts.values()), ink)
        price = _CUT * figure.height * figure.strength
        chains: list[tuple[float, list[Figure]]] = [(price, []), *((-np.inf, list[Figure]()) for _ in cuts[1:])]
        for (start, end), part in sorted(parts.items()):
            value = chains[start][0] + _value(part) - price
            sure = _SURE[part.width < 0.6 * part.height]
            if part.likeness > sure and value > chains[end][0]:
                chains[end] = value, [*chains[start][1], part]
        if len(chains[-1][1]) > 1 and chains[-1][0] > sum(map(_value, best)):
            best = chains[-1][1]
    return best


def _cuts(mask: Mask, slant: float) -> list[Floats]:
    # The column of each cut in each row.
    height = len(mask)
    shift = slant * (height / 2 - np.arange(height))
    rows, columns = np.nonzero(mask)
    across = (columns - shift[rows]).round().astype(int)
    least, step = across.min(), max(2, round(_STEP * height))
    ink = np.bincount(across - least)
    starts = range(step // 2, len(ink) - step // 2, step)
    return [shift + least + start + ink[start : start + step].argmin() for start in starts]


def _repair(figures: list[Figure], ink: Floats) -> list[Figure]:
    # Digits that the pen has broken: two figures become one where that is worth more.
    while True:
        pairs = [pair for pair in combinations(figures, 2) if _may_be_one(*pair)]
        if not 0 < len(pairs) < _FEW:
            return figures
        joined = rate([join(pair) for pair in pairs], ink)
        gains = [
            _value(one, max(one.likeness, (gap(*pair) < 0) * _TURNED * one.turned))
            * (_TALLER if _are_stacked(*pair) else 1)
            * (one.width < _WIDE * one.height)  # not a digit with an underline
            - sum(map(_value, pair))
            for one, pair in zip(joined, pairs, strict=True)
        ]
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            return figures
        figures = [figure for figure in figures if figure not in pairs[best]] + [joined[best]]


def _may_be_one(one: Figure, other: Figure) -> bool:
    strengths = sorted((one.strength, other.strength))
    is_near = gap(one, other) < _PEN_GAP * max(one.height, other.height)
    return (
        is_near
        and strengths[0] > _SHADES[0] * strengths[1]
        and (_are_stacked(one, other) or min(one.likeness, other.likeness) < 0.9)
    )


def _are_stacked(one: Figure, other: Figure) -> bool:
    common = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    return common > 0.5 * min(one.width, other.width)


def _of_one_size(figures: Sequence[Figure]) -> tuple[list[Figure], float]:
    # The best group of figures of about one size and strength, upright or turned, and its value.
    digits = [
        figure
        for figure in _without_frames(figures)
        # An edge of paper or a ruled line is like a 1, at one threshold only.
        if figure.image is not None
        and figure.width < _WIDE * figure.height
        and (figure.levels > 1 or figure.width > 0.4 * figure.height)
    ]
    best: list[Figure] = []
    most = 0.0
    for name, weight in ("likeness", 1), ("turned", _TURNED):
        likenesses = {figure: float(getattr(figure, name)) for figure in digits}
        for figure in digits:
            alike = [each for each in digits if _are_alike(each, figure)]
            total = weight * sum(
                _value(each, likenesses[each]) * each.height ** (_COUNT - 1) for each in alike if likenesses[each] > 0
            )
            if figure.levels > 1 and total > most:
                sure = [each for each in alike if likenesses[each] > DIGIT]
                best = [
                    each
                    for each in alike
                    if each in sure or (each.levels > 1 and any(_is_beside(each, digit) for digit in sure))
                ]
                most = total
    drawn = [each for each in figures if each.image is not None and (each.levels > 1 or each.strength > _FAINT)]
    if not best and drawn:  # no digit: the largest figure, and those like it
        largest = max(drawn, key=lambda each: (each.levels >= _STABLE, each.height * each.strength))
        alike = [each for each in digits if each.levels > 1 and _are_alike(each, largest)]
        best = alike if largest in alike else [largest]
        most = (1 if largest.likeness > DIGIT else _UNLIKE) * _value(largest) * largest.height ** (_COUNT - 1)
    return best, most


def _are_alike(one: Figure, other: Figure) -> bool:
    is_as_high = _SIZES[0] < max(one.height, one.width / 2) / max(other.height, other.width / 2) < _SIZES[1]
    return is_as_high and _SHADES[0] < one.strength / other.strength < _SHADES[1]


def _is_beside(figure: Figure, digit: Figure) -> bool:
    common = min(figure.box[3], digit.box[3]) - max(figure.box[1], digit.box[1])
    is_in_line = common > 0.5 * min(figure.height, digit.height)
    return is_in_line and gap(figure, digit) < _BESIDE * digit.height


def _colour(figure: Figure, pixels: Pixels) -> Floats:
    left, top, right, bottom = figure.box
    return np.asarray(pixels[top:bottom, left:right][figure.mask].mean(axis=0))


def _around(figure: Figure, pixels: Pixels) -> Floats:
    # The median colour of its box with a rim.
    (left, top, right, bottom), rim = figure.box, figure.height // 4
    return np.asarray(
        np.median(pixels[max(0, top - rim) : bottom + rim, max(0, left - rim) : right + rim].reshape(-1, 3), axis=0)
    )
