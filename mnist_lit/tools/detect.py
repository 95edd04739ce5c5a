"""Where the digits of a picture are."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, compress, pairwise
from math import ceil
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from mnist_lit.tools.preprocess import NoDigitError, find_digit, full_size, preprocess, to_rgb
from mnist_lit.tools.rejection import energy

_SIDES = 240, 1600  # pixels: the longer side of a picture, when it is looked at
_PAPER = 160  # pixels of the longer side at which paper is told from ink
_THRESHOLDS = (0.6, 0.5, 0.4, 0.32, 0.25, 0.2, 0.15, 0.11)  # of ink, which is from 0 to 1
_FEW = 40  # figures: more are neither joined nor cut, which would take too long

_Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Detection:
    """A digit in a picture.

    Attributes:
        line: Number of its line, from 1 at the top. Where a gap is more than 1.5 times as wide as the digits are
            high, another line begins.
        position: Its place in the line, from 1 at the left.
        box: Left, top, right and bottom edge, in pixels of the upright picture.
        image: The digit as MNIST's makers would have made it, float32 ``(1, 28, 28)`` in [0, 1].
    """

    line: int
    position: int
    box: tuple[int, int, int, int]
    image: Tensor


def detect_digits(picture: Image.Image) -> list[Detection]:
    """Return the digits in a picture as one reads them: lines from the top, in each line from the left.

    Paper is what remains when all that is small and dark is closed (morphological closing: Serra, "Image analysis and
    mathematical morphology", 1982), and ink is how much darker a pixel is. At each of eight thresholds ink falls into
    connected components. Those that a pen cannot have drawn as a digit are left out: solid ones, those that hold others
    (frames, boxes, ruled lines that cross), what the border cuts off, and texture. The threshold that leaves most ink
    in figures of about one size is taken, the largest of which is the same at the next threshold: shadows are not.

    Left out are also digits less than 0.4 times as high as the tallest, and of more than 40 figures none are joined or
    cut.

    What then remains to be decided, ``energy`` decides, which says how much an image is like a digit: which parts are
    one digit that the pen has broken, which figure is two digits that touch, whether what reaches the border belongs to
    the number, whether ink is dark on light paper or light on dark, and whether all of the picture is one digit.

    Args:
        picture: Of any size and mode.

    Raises:
        NoDigitError: If there is nothing that could be a digit.
    """
    picture = to_rgb(picture)
    longer = max(picture.size)
    scale = min(max(longer, _SIDES[0]), _SIDES[1]) / longer
    size = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3), dtype=np.float32) / 255
    found = [_find_digits(seen) for seen in (pixels, 1 - pixels)]
    scores = [_score(images) for images in found]
    for one, other in (0, 1), (1, 0):
        if found[one] and all(any(figure.lies_within(outer) for outer in found[other]) for figure in found[one]):
            # The holes of a digit may look like digits; but of a digit inside that is stronger it is the halo. What the
            # border cuts off is rather the paper around digits than a digit with holes.
            if _strength(found[one]) < 1.1 * _strength(found[other]):
                scores[one] -= 0.3 if any(figure.is_at_border for figure in found[other]) else 1.5
            elif scores[one] > 0:
                scores[other] -= 0.3
    images = _or_whole(found[int(np.argmax(scores))], picture, size)
    if not images:
        raise NoDigitError("there is no ink in it that could be a digit")
    whole = full_size(picture)
    scale *= longer / max(whole)
    return [
        Detection(line, position, figure.scaled_box(scale, whole), images[figure])
        for line, figures in enumerate(_lines(list(images)), start=1)
        for position, figure in enumerate(figures, start=1)
    ]


@dataclass(frozen=True, eq=False)
class _Figure:
    # Connected ink, or the parts of one digit. The mask has the size of the box. Edges are cached, since each figure is
    # compared with each other one.
    left: int
    top: int
    mask: npt.NDArray[np.bool_]
    ink: float  # the sum over its pixels
    strength: float  # the ink of its darker pixels
    is_at_border: bool = False

    @cached_property
    def right(self) -> int:
        return self.left + self.width

    @cached_property
    def bottom(self) -> int:
        return self.top + self.height

    @cached_property
    def width(self) -> int:
        return int(self.mask.shape[1])

    @cached_property
    def height(self) -> int:
        return int(self.mask.shape[0])

    @property
    def size(self) -> int:
        return max(self.width, self.height)

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self.left, self.top, self.right, self.bottom

    @property
    def is_wide(self) -> bool:  # a stroke, at most a part of a digit
        return self.width > 2.2 * self.height

    def lies_within(self, other: "_Figure") -> bool:
        is_beside = self.left >= other.left and self.right <= other.right
        return is_beside and self.top >= other.top and self.bottom <= other.bottom

    def scaled_box(self, scale: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
        left, top = int(self.left / scale), int(self.top / scale)
        return left, top, min(ceil(self.right / scale), size[0]), min(ceil(self.bottom / scale), size[1])

    def gap(self, other: "_Figure") -> int:
        beside = max(self.left, other.left) - min(self.right, other.right)
        return max(beside, self.top - other.bottom, other.top - self.bottom)

    def part(self, start: int, end: int) -> "_Figure":
        # What lies in some of its columns.
        mask = self.mask[:, start:end]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        share = mask.sum() / self.mask.sum()
        mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        left, top = self.left + start + int(columns[0]), self.top + int(rows[0])
        return _Figure(left, top, mask, share * self.ink, self.strength, self.is_at_border)

    def __or__(self, other: "_Figure") -> "_Figure":
        left, top = min(self.left, other.left), min(self.top, other.top)
        mask = np.zeros((max(self.bottom, other.bottom) - top, max(self.right, other.right) - left), bool)
        for each in self, other:
            mask[each.top - top : each.bottom - top, each.left - left : each.right - left] |= each.mask
        return _Figure(left, top, mask, self.ink + other.ink, self.strength, self.is_at_border or other.is_at_border)


def _find_paper(pixels: _Floats) -> _Floats:
    # What the pixels would be without ink: closed with a disc as wide as a quarter of the picture, and smoothed.
    height, width, _ = pixels.shape
    scale = _PAPER / max(height, width)
    small = cv2.resize(
        pixels, (max(8, round(scale * width)), max(8, round(scale * height))), interpolation=cv2.INTER_AREA
    )
    small = cv2.medianBlur((255 * small).round().astype(np.uint8), 3).astype(np.float32) / 255  # a light speck is none
    diameter = max(small.shape) // 4 | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    paper = cv2.GaussianBlur(cv2.morphologyEx(small, cv2.MORPH_CLOSE, disc), (0, 0), diameter / 4)
    return np.asarray(cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR))


def _find_ink(pixels: _Floats, paper: _Floats) -> _Floats:
    # How much of the light each pixel swallows, from 0 to 1.
    absorbed = (1 - pixels / np.maximum(paper, 0.05)).clip(0, 1)
    return np.asarray(cv2.GaussianBlur(np.sqrt((absorbed**2).mean(axis=2)), (0, 0), 0.8))


def _erase_underlines(ink: _Floats) -> _Floats:
    # Without straight lines that digits stand on.
    _, labels, statistics, _ = cv2.connectedComponentsWithStats((ink > np.percentile(ink, 99.9) / 2).astype(np.uint8))
    erased = ink.copy()
    for label, (left, top, width, height, _) in enumerate(statistics[1:], start=1):
        if width < 1.3 * height or width < 0.1 * max(ink.shape):
            continue
        from_below = labels[top : top + height, left : left + width][::-1] == label
        rows, columns = np.mgrid[:height, :width]
        lowest = from_below.argmax(axis=0)
        line = np.polyval(np.polyfit(columns[0], lowest, 1), columns[0])
        width_of_line = float(np.median((~from_below & (rows > lowest)).argmax(axis=0) - lowest))
        if (abs(lowest - line) > 2 + 0.02 * height).mean() < 0.1 and width_of_line < 0.3 * height:
            erased[top : top + height, left : left + width][::-1][rows < line + 1.5 * width_of_line + 2] = 0
            erased[top + height : top + height + 4, left : left + width] = 0  # its blurred edge
    return erased


def _find_digits(pixels: _Floats) -> dict[_Figure, Tensor]:
    # The dark digits, as MNIST's makers would have made them, with those that reach the border or without.
    paper = _find_paper(pixels)
    found: list[dict[_Figure, Tensor]] = []
    for figures in _find_figures(_find_ink(pixels, paper)):
        images = _prepare(figures, pixels, paper)
        if len(images) <= _FEW:
            images = _split(_join(images, pixels, paper), pixels, paper)
        found.append(images)
    return max(found, key=_score)


def _find_figures(ink: _Floats) -> list[list[_Figure]]:
    # The figures that could be digits, each at the best threshold: without those that reach the border, and with them.
    ink = _erase_underlines(ink)
    noise = 2 * 1.48 * float(np.median(np.abs(ink - cv2.GaussianBlur(ink, (0, 0), 2))))
    components = [list(_components(ink, threshold)) for threshold in _THRESHOLDS if threshold >= 4 * noise]
    stable = _find_stable(components)
    chosen: list[list[_Figure]] = []
    for with_border in False, True:
        groups = [
            _of_one_size([figure for figure in each if with_border or not figure.is_at_border], stable)
            for each in components
        ]
        best: list[_Figure] = []
        for group in [group for group in groups if stable.intersection(group[:1])] or groups:
            if _total(group) > 1.1 * _total(best):  # rather a higher threshold, at which less touches
                best = group
        figures = _merge(best)
        chosen.append([figure for figure in figures if figure.height > 0.4 * max(each.height for each in figures)])
    inner, outer = chosen
    return [inner, outer] if any(figure.is_at_border for figure in outer) else [inner]


def _components(ink: _Floats, threshold: float) -> Iterator[_Figure]:
    # Connected ink above the threshold, without what a pen cannot have drawn as a digit or a part of one.
    _, labels, statistics, _ = cv2.connectedComponentsWithStats((ink > threshold).astype(np.uint8), connectivity=8)
    sizes = statistics[:, 2:4].max(axis=1)
    is_large = (sizes >= max(6, 0.008 * max(ink.shape))) & (statistics[:, 2:4].min(axis=1) > 1)  # ink is blurred
    large = 1 + np.flatnonzero(is_large[1:])  # without the first, which is the paper
    if len(large) > 2000:  # noise
        return
    lefts, tops, widths, heights, _ = statistics[large].T
    for label in large:
        left, top, width, height, _ = (int(value) for value in statistics[label])
        is_inside = (
            (lefts >= left) & (tops >= top) & (lefts + widths <= left + width) & (tops + heights <= top + height)
        )
        mask = labels[top : top + height, left : left + width] == label
        held = sizes[large][is_inside] / sizes[label]  # itself among them
        if (held > 0.4).sum() > 1 or (held > 0.12).sum() > 2 or (held > 0.03).sum() > 3:
            continue
        if (held > 0.12).sum() > 1 and _encloses(mask, statistics[large][is_inside & (large != label)], left, top):
            continue
        values = ink[top : top + height, left : left + width][mask]
        if values.mean() < 1.25 * threshold:  # texture: ink is well above the threshold
            continue
        rim = (labels[[0, -1]] == label).sum() + (labels[:, [0, -1]] == label).sum()
        edges = (left == 0) + (top == 0) + (left + width == ink.shape[1]) + (top + height == ink.shape[0])
        is_crop = edges == 3 and max(width, height) < 5 * min(width, height)  # of a 1, first or last in a number
        if rim > 0.95 * sizes[label] and not is_crop:  # cut off by the border, or around all else
            continue
        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3).max()
        if 2 * depth > 0.5 * sizes[label]:  # solid
            continue
        yield _Figure(left, top, mask, float(values.sum()), float(np.percentile(values, 75)), rim > 0)


def _encloses(mask: npt.NDArray[np.bool_], others: npt.NDArray[np.int32], left: int, top: int) -> bool:
    # Whether one of the others, given by their boxes, is in a hole of the mask.
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    return any(filled[y - top + height // 2, x - left + width // 2] for x, y, width, height, _ in others)


def _find_stable(components: Sequence[Sequence[_Figure]]) -> set[_Figure]:
    # Figures that are nearly the same at the next threshold (maximally stable extremal regions: Matas, Chum, Urban
    # and Pajdla, "Robust wide baseline stereo", 2002). A shadow is not.
    stable: set[_Figure] = set()
    for pair in pairwise(components):
        boxes = [torch.tensor([each.box for each in figures]).reshape(-1, 4) for figures in pair]
        is_alike = box_iou(*boxes) > 0.7
        for figures, dim in zip(pair, (1, 0), strict=True):
            stable.update(compress(figures, is_alike.any(dim=dim)))
    return stable


def _total(figures: Sequence[_Figure]) -> float:
    return sum(figure.ink for figure in figures if not figure.is_wide)


def _of_one_size(figures: Sequence[_Figure], stable: Container[_Figure]) -> list[_Figure]:
    # Those about as large and as dark as the stable figure with most ink, this one first.
    whole = [figure for figure in figures if not figure.is_wide]
    if not whole:
        return []
    largest = max(whole, key=lambda figure: (figure in stable, figure.strength * figure.ink))
    alike = [
        figure
        for figure in figures
        if figure.strength > 0.5 * largest.strength and 0.15 < figure.size / largest.size < 1.7
    ]
    return sorted(alike, key=lambda figure: figure is not largest)


def _merge(figures: Sequence[_Figure]) -> list[_Figure]:
    # The parts of a digit, one above the other, become one: the bar of a 5, but no line below a number.
    digits: list[_Figure] = []
    for part in sorted(figures, key=lambda figure: (figure.is_wide, -figure.mask.size)):
        for index, digit in enumerate(digits):
            gap = max(part.top, digit.top) - min(part.bottom, digit.bottom)
            height = max(part.bottom, digit.bottom) - min(part.top, digit.top)
            is_below = part.top + part.bottom > 2 * digit.bottom - 0.3 * digit.height
            if part.is_wide and (is_below or part.width > 2 * max(digit.width, 0.5 * digit.height)):
                continue
            if (
                _overlap(part.left, part.right, digit.left, digit.right) > 0.5 * min(part.width, digit.width)
                and gap < 0.3 * digit.height
                and height < 1.6 * max(digit.height, 0.6 * digit.width)
            ):
                digits[index] = digit | part
                break
        else:
            if not part.is_wide:
                digits.append(part)
    return digits


def _overlap(start: int, end: int, other_start: int, other_end: int) -> int:
    return max(0, min(end, other_end) - max(start, other_start))


def _prepare(figures: Iterable[_Figure], pixels: _Floats, paper: _Floats) -> dict[_Figure, Tensor]:
    # The figures as MNIST's makers would have made them, without those in which there is no ink.
    images = {figure: _prepare_one(figure, pixels, paper) for figure in figures}
    return {figure: image for figure, image in images.items() if image is not None}


def _prepare_one(figure: _Figure, pixels: _Floats, paper: _Floats) -> Tensor | None:
    # The figure alone, with paper in place of all else and around it, as MNIST's makers would have made it.
    reach = max(2, round(0.04 * figure.size))
    height, width, _ = pixels.shape
    left, top = max(0, figure.left - 2 * reach), max(0, figure.top - 2 * reach)
    right, bottom = min(width, figure.right + 2 * reach), min(height, figure.bottom + 2 * reach)
    mask = np.zeros((bottom - top, right - left), np.uint8)
    mask[figure.top - top : figure.bottom - top, figure.left - left : figure.right - left] = figure.mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    weight = cv2.GaussianBlur(cv2.dilate(mask, disc).astype(np.float32), (0, 0), reach / 2)[..., None]
    around, inside = paper[top:bottom, left:right], pixels[top:bottom, left:right]
    margin = figure.size // 2
    colour = [float(value) for value in np.median(around.reshape(-1, 3), axis=0)]
    alone = cv2.copyMakeBorder(
        around + weight * (inside - around), margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=colour
    )
    try:
        return preprocess(Image.fromarray((255 * alone).clip(0, 255).astype(np.uint8)))
    except NoDigitError:
        return None


def _join(images: dict[_Figure, Tensor], pixels: _Floats, paper: _Floats) -> dict[_Figure, Tensor]:
    # A digit that the pen has broken: two figures with hardly a gap become one if it is more like a digit than both.
    result = dict(images)
    for one, other in combinations(images, 2):
        if one in result and other in result and one.gap(other) < 0.15 * max(one.height, other.height):
            joined = _prepare([one | other], pixels, paper)
            if joined and _energies(joined.values())[0] > max(_energies([images[one], images[other]])):
                del result[one], result[other]
                result |= joined
    return result


def _split(images: dict[_Figure, Tensor], pixels: _Floats, paper: _Floats) -> dict[_Figure, Tensor]:
    # Digits that touch: a figure is cut in two if it is no digit, but both of its parts are.
    result: dict[_Figure, Tensor] = {}
    for figure, image in images.items():
        parts = {figure: image}
        if figure.width > figure.height and _energies([image])[0] < -2:
            best = 2.0
            ink = figure.mask.sum(axis=0)
            for start, end in pairwise(range(figure.width // 4, 3 * figure.width // 4, max(1, figure.width // 16))):
                column = start + int(ink[start:end].argmin())
                cut = _prepare((figure.part(0, column), figure.part(column, figure.width)), pixels, paper)
                if len(cut) == 2 and (worse := min(_energies(cut.values()))) > best:
                    best, parts = worse, cut
        result |= parts
    return result


def _energies(images: Iterable[Tensor]) -> list[float]:
    energies: list[float] = energy(torch.stack(list(images))).tolist()
    return energies


def _strength(figures: Iterable[_Figure]) -> float:
    return max(figure.strength for figure in figures)


def _score(images: dict[_Figure, Tensor]) -> float:
    # How many digits there are, less what is none, as the network expects, less 0.4 for each at the border. Digits
    # turned by 90 degrees count, too, so that they are found and it can be said that they may be turned.
    if not images:
        return -np.inf
    upright, scores = torch.stack(list(images.values())), []
    at_border = torch.tensor([0.4 if figure.is_at_border else 0.0 for figure in images])
    for turns, less in (0, 0.0), (1, 0.2), (3, 0.2):
        digits = 2 * energy(upright.rot90(turns, (2, 3))).sigmoid() - 1 - at_border
        # Three that are none are no worse than one.
        scores.append(float(digits.sum() if digits.sum() > 0 else digits.mean()) - less)
    return max(scores)


def _or_whole(images: dict[_Figure, Tensor], picture: Image.Image, size: tuple[int, int]) -> dict[_Figure, Tensor]:
    # The picture as that of one digit, if that is more like a digit than what was found in it. In place of several
    # figures it must be a digit.
    try:
        whole, box = find_digit(picture)
    except NoDigitError:
        return images
    left, top, right, bottom = (round(edge * size[0] / picture.width) for edge in box)
    mask = np.ones((max(1, bottom - top), max(1, right - left)), bool)
    everything = {_Figure(left, top, mask, 0, 0, any(figure.is_at_border for figure in images)): whole}
    if images and _score(everything) <= max(_score(images), 0 if len(images) > 1 else -1):
        return images
    return everything


def _lines(figures: Sequence[_Figure]) -> list[list[_Figure]]:
    # As one reads them, each from the left.
    lines: list[list[_Figure]] = []
    for figure in sorted(figures, key=lambda figure: figure.top + figure.bottom):
        for line in lines:
            nearest = min(line, key=lambda each: abs(each.left + each.right - figure.left - figure.right))
            common = _overlap(figure.top, figure.bottom, nearest.top, nearest.bottom)
            if common > 0.4 * min(figure.height, nearest.height):
                line.append(figure)
                break
        else:
            lines.append([figure])
    return [number for line in lines for number in _numbers(sorted(line, key=lambda figure: figure.left))]


def _numbers(line: Sequence[_Figure]) -> list[list[_Figure]]:
    # The numbers of a line: those of two columns stand further apart than the digits of one.
    numbers, height = [[line[0]]], float(np.median([figure.height for figure in line]))
    for before, figure in pairwise(line):
        if figure.left - before.right > 1.5 * height:
            numbers.append([])
        numbers[-1].append(figure)
    return numbers
