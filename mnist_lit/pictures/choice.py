"""Choice: which candidates are digits, decided by how much each one is like a digit."""

from collections.abc import Iterable
from itertools import combinations, pairwise

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mnist_lit.pictures.candidates import find_candidates
from mnist_lit.pictures.figures import Figure
from mnist_lit.pictures.ink import Floats, find_ink, find_paper
from mnist_lit.pictures.picture import NoDigitError
from mnist_lit.pictures.preparation import find_digit, preprocess
from mnist_lit.pictures.rejection import energy

Images = dict[Figure, Tensor]
"""Figures, and each as an image like MNIST's, float32 ``(1, 28, 28)`` in [0, 1]."""

_FEW = 40  # figures: more are neither joined nor cut, which would take too long


def choose_digits(picture: Image.Image, pixels: Floats) -> Images:
    """Return the digits of a picture: dark ones or light ones, or all of the picture as one digit.

    Args:
        picture: As ``to_rgb`` returns it.
        pixels: ``(H, W, 3)`` in [0, 1], the picture at the size at which figures are found.
    """
    found = [_find_digits(seen) for seen in (pixels, 1 - pixels)]
    scores = [_score(images) for images in found]
    for one, other in (0, 1), (1, 0):
        if found[one] and all(any(figure.lies_within(outer) for outer in found[other]) for figure in found[one]):
            # The holes of a digit may look like digits; but inside a stronger digit in the other ink there is only its
            # halo. A figure that the border cuts off is rather the paper around digits than a digit with holes.
            if _strength(found[one]) < 1.1 * _strength(found[other]):
                scores[one] -= 0.3 if any(figure.is_at_border for figure in found[other]) else 1.5
            elif scores[one] > 0:
                scores[other] -= 0.3
    return _or_whole(found[int(np.argmax(scores))], picture, pixels.shape[1])


def _find_digits(pixels: Floats) -> Images:
    # The dark digits, with or without figures at the border.
    paper = find_paper(pixels)
    found: list[Images] = []
    for figures in find_candidates(find_ink(pixels, paper)):
        images = _prepare(figures, pixels, paper)
        if len(images) <= _FEW:
            images = _split(_join(images, pixels, paper), pixels, paper)
        found.append(images)
    return max(found, key=_score)


def _prepare(figures: Iterable[Figure], pixels: Floats, paper: Floats) -> Images:
    # The figures as images like MNIST's, without figures that have no ink.
    images: Images = {}
    for figure in figures:
        try:
            images[figure] = preprocess(_cut_out(figure, pixels, paper))
        except NoDigitError:
            continue
    return images


def _cut_out(figure: Figure, pixels: Floats, paper: Floats) -> Image.Image:
    # Only this figure, with paper in place of everything else and around it.
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
    return Image.fromarray((255 * alone).clip(0, 255).astype(np.uint8))


def _join(images: Images, pixels: Floats, paper: Floats) -> Images:
    # A digit that the pen has broken: two figures with hardly a gap become one if it is more like a digit than both.
    result = dict(images)
    for one, other in combinations(images, 2):
        if one in result and other in result and one.gap(other) < 0.15 * max(one.height, other.height):
            joined = _prepare([one | other], pixels, paper)
            if joined and _energies(joined.values())[0] > max(_energies([images[one], images[other]])):
                del result[one], result[other]
                result |= joined
    return result


def _split(images: Images, pixels: Floats, paper: Floats) -> Images:
    # Digits that touch: a figure that is not a digit is cut in two if both parts are digits.
    result: Images = {}
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


def _strength(figures: Iterable[Figure]) -> float:
    return max(figure.strength for figure in figures)


def _score(images: Images) -> float:
    # The expected number of digits less the number of non-digits, and less 0.4 for each figure at the border. Digits
    # turned by 90 degrees count, too, so that they are found and the answer can be that they may be turned.
    if not images:
        return -np.inf
    upright, scores = torch.stack(list(images.values())), []
    at_border = torch.tensor([0.4 if figure.is_at_border else 0.0 for figure in images])
    for turns, less in (0, 0.0), (1, 0.2), (3, 0.2):
        digits = 2 * energy(upright.rot90(turns, (2, 3))).sigmoid() - 1 - at_border
        # Three non-digits are no worse than one.
        scores.append(float(digits.sum() if digits.sum() > 0 else digits.mean()) - less)
    return max(scores)


def _or_whole(images: Images, picture: Image.Image, width: int) -> Images:
    # All of the picture as one digit, if that is more like a digit than the figures in it. Instead of several figures
    # it must be a digit.
    try:
        whole, box = find_digit(picture)
    except NoDigitError:
        return images
    left, top, right, bottom = (round(edge * width / picture.width) for edge in box)
    mask = np.ones((max(1, bottom - top), max(1, right - left)), bool)
    everything = {Figure(left, top, mask, 0, 0, any(figure.is_at_border for figure in images)): whole}
    if images and _score(everything) <= max(_score(images), 0 if len(images) > 1 else -1):
        return images
    return everything
