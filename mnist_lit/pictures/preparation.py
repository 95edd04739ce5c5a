"""Preparation: from a picture of one digit to an image like MNIST's."""

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mnist_lit.pictures.picture import NoDigitError, to_rgb

_SIZE = 128  # pixels of the longer side at which ink is separated from paper
_BOX, _FIELD = 20, 28  # pixels of MNIST's box for the ink, and of its image around it
_FINE = 8  # times MNIST's size at which strokes are measured
_STROKES = (1.3, 2.6)  # in MNIST's pixels: of the thinnest twentieth of its digits, and the thickest tenth


def preprocess(image: Image.Image) -> Tensor:
    """Return the digit in a picture as MNIST's makers would have made it, float32 ``(1, 28, 28)`` in [0, 1].

    White on black, its ink scaled to a box of 20x20 pixels with its aspect ratio kept, anti-aliased, and placed with
    its centre of mass in the middle of 28x28 (LeCun, Bottou, Bengio and Haffner 1998, section III.A). Strokes that are
    thinner or thicker than most of MNIST's are made as wide as these.

    Ink is separated from paper automatically: it covers less than the paper around it, and is darker, lighter or of
    another colour. Light may change smoothly over the picture.

    Args:
        image: A picture of one digit, of any size and mode.

    Raises:
        NoDigitError: If there is no ink in it.

    Example:
        >>> from PIL import ImageDraw
        >>> picture = Image.new("RGB", (300, 400), "lightyellow")
        >>> ImageDraw.Draw(picture).line([(100, 50), (110, 350)], fill="navy", width=20)
        >>> preprocess(picture).shape
        torch.Size([1, 28, 28])
    """
    return find_digit(image)[0]


def find_digit(image: Image.Image) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Return the image of ``preprocess``, and the left, top, right and bottom edge of the ink, in pixels of ``to_rgb``.

    Args:
        image: A picture of one digit, of any size and mode.

    Raises:
        NoDigitError: If there is no ink in it.
    """
    picture = to_rgb(image)
    image = _widen(picture)
    x, y = (picture.width - image.width) // 2, (picture.height - image.height) // 2  # of the part that is looked at
    while True:
        ink, mask = _find_ink(image)
        top, bottom, left, right = _bounds(mask)
        side = max(bottom - top, right - left)
        # A digit that is small in its picture is looked at again from nearer by, with half as much paper on each side.
        box = (left - side / 2, top - side / 2, right + side / 2, bottom + side / 2)
        scale = max(image.size) / _SIZE
        edges = [round(min(max(scale * edge, 0), end)) for edge, end in zip(box, image.size * 2, strict=True)]
        closer = image.crop((edges[0], edges[1], edges[2], edges[3]))
        if side > 0.4 * _SIZE or max(closer.size) >= max(image.size):
            digit = (ink * mask)[top:bottom, left:right]
            if digit.mean() < 0.01:
                raise NoDigitError("there is no ink in it except specks")
            found = (
                max(0, x + round(scale * left)),
                max(0, y + round(scale * top)),
                min(picture.width, x + round(scale * right)),
                min(picture.height, y + round(scale * bottom)),
            )
            return place(_normalize_strokes(digit)), found
        image, x, y = closer, x + edges[0], y + edges[1]


def place(digit: Tensor) -> Tensor:
    """Return ink in the form of MNIST: in a box of 20x20 pixels, its centre of mass in the middle of 28x28.

    Args:
        digit: Float ``(H, W)``, 0 outside of the ink, which reaches to its edges.

    Returns:
        Float ``(1, 28, 28)`` in [0, 1].
    """
    digit = _scale(digit, _BOX)
    digit = (digit / digit.max() * 255).round() / 255  # 256 grey levels, as MNIST has
    padding: list[int] = []
    for dim, length in (1, digit.shape[1]), (0, digit.shape[0]):
        centre = float(digit.sum(dim=1 - dim) @ torch.arange(float(length)) / digit.sum())
        before = min(max(round(_FIELD / 2 - centre), 0), _FIELD - length)
        padding += before, _FIELD - length - before
    return F.pad(digit[None], padding)


def _widen(image: Image.Image) -> Image.Image:
    # A tight crop of a 1 is a narrow strip: with paper on both sides, of the colour of most of its longer edges.
    shorter, longer = sorted(image.size)
    if 3 * shorter >= longer:
        return image
    pixels = np.asarray(image)
    edges = pixels[:, [0, -1]] if image.height == longer else pixels[[0, -1]]
    red, green, blue = (int(value) for value in np.median(edges.reshape(-1, 3), axis=0))
    size = max(image.width, longer // 2), max(image.height, longer // 2)
    wide = Image.new("RGB", size, (red, green, blue))
    wide.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return wide


def _bounds(mask: Tensor) -> tuple[int, int, int, int]:
    rows, columns = (mask.any(dim=dim).nonzero() for dim in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _find_ink(image: Image.Image) -> tuple[Tensor, Tensor]:
    # How much each pixel is ink, from 0 to 1, and whether it belongs to the digit: both (height, width).
    width, height = (round(_SIZE / max(*image.size, 1) * length) for length in image.size)
    small = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3)
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255
    paper = _fit_paper(pixels)
    difference = pixels - paper
    # The ink's colour: the direction in which pixels differ most, to that side of paper where fewer are, but farther.
    colour = torch.linalg.eigh(difference.flatten(1) @ difference.flatten(1).T).eigenvectors[:, -1]
    colour = colour * ((colour @ difference.flatten(1)) ** 3).sum().sign()
    if colour.sum() < 0:  # dark ink: compare reflectances, which do not change with the light
        difference = difference / paper.clamp(min=0.1)
    ink = torch.einsum("c,chw->hw", colour, difference)
    blurred = _blur(ink)
    noise = 1.48 * float(blurred.abs().median())  # the standard deviation of normally distributed noise
    level = float(blurred.flatten().topk(blurred.numel() // 1000 + 1).values[-1])
    if not level > max(0.06, 5 * noise):
        raise NoDigitError("there is no ink in it")
    core = blurred > level / 2
    labels = _label_components(blurred > max(0.15 * level, 3 * noise))
    weights = torch.zeros(labels.numel() + 1).index_add_(0, labels.flatten(), (blurred * core).flatten())
    weights[0] = 0
    mask = (weights > 0.08 * weights.max())[labels]  # specks left out
    # Not below 0.01, which it is for single pixels that the blur has spread.
    return (ink / ink[mask & core].median().clamp(min=0.01)).clamp(0, 1), mask


def _blur(ink: Tensor) -> Tensor:
    # A Gaussian of 7x7 pixels, as torchvision's gaussian_blur with a sigma of 1.3; importing torchvision takes longer
    # than reading a picture.
    reach = 6 / 8**0.5
    line = (-((torch.linspace(-reach, reach, 7) / 1.3) ** 2)).softmax(dim=0)
    padded = F.pad(ink[None, None], (3, 3, 3, 3), mode="reflect")
    return F.conv2d(padded, (line[:, None] * line)[None, None])[0, 0]


def _fit_paper(pixels: Tensor) -> Tensor:
    # The quadratic surface that is near to most pixels, above all to pixels at the border: (3, height, width).
    _, height, width = pixels.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    terms = torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y), dim=-1)
    some_terms, values = terms[::4, ::4].flatten(0, 1), pixels[:, ::4, ::4].flatten(1).T
    is_border = some_terms[:, 1:3].abs().amax(dim=1) > 0.7
    weights = is_border.float()
    for _ in range(12):  # least squares, reweighted so that ink counts for little
        root = weights.sqrt()[:, None]
        coefficients = torch.linalg.lstsq(root * some_terms, root * values).solution
        residuals = (values - some_terms @ coefficients).norm(dim=1)
        tolerance = 2 * residuals[is_border].median().clamp(min=0.004)
        weights = (1 + is_border.float()) / (1 + (residuals / tolerance) ** 4)
    paper: Tensor = terms @ coefficients
    return paper.permute(2, 0, 1)


def _label_components(mask: Tensor) -> Tensor:
    # For each pixel the number of its connected component, 0 outside of the mask: (height, width). Found at half the
    # size, which also joins parts that are a pixel apart.
    coarse = F.max_pool2d(mask[None].float(), 2, ceil_mode=True)[0]
    labels = torch.from_numpy(cv2.connectedComponents(coarse.byte().numpy())[1])
    height, width = mask.shape
    return labels.repeat_interleave(2, 0).repeat_interleave(2, 1)[:height, :width].long() * mask


def _normalize_strokes(digit: Tensor) -> Tensor:
    large = F.pad(_scale(digit, _BOX * _FINE), (_BOX,) * 4)[None]  # room to grow
    solid = (large > 0.5).float()
    edge = solid + F.max_pool2d(-solid, 3, 1, 1)  # solid without its erosion
    stroke = 2 * float(solid.sum() / edge.sum()) / _FINE
    growth = min(max(stroke, _STROKES[0]), _STROKES[1]) - stroke
    if reach := round(abs(growth) / 2 * _FINE):
        sign = 1 if growth > 0 else -1
        for size in (2 * reach + 1, 1), (1, 2 * reach + 1):  # a dilation, or an erosion, one axis after the other
            large = sign * F.max_pool2d(sign * large, size, 1, (size[0] // 2, size[1] // 2))
    top, bottom, left, right = _bounds(large[0] > 0.15)
    return large[0, top:bottom, left:right]


def _scale(digit: Tensor, side: int) -> Tensor:
    size = [max(1, round(side * length / max(digit.shape))) for length in digit.shape]
    return F.interpolate(digit[None, None], size, mode="bilinear", antialias=True)[0, 0].clamp(0, 1)
