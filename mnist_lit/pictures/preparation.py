"""Preparation: from the ink of a component to an image like MNIST's."""

import cv2
import numpy as np

from mnist_lit.pictures.components import Component
from mnist_lit.pictures.ink import Floats

_BOX, _FIELD = 20, 28  # pixels of MNIST's box for the ink, and of its image around it
_FINE = 8  # times MNIST's size at which strokes are measured
_STROKES = 1.3, 2.6  # in MNIST's pixels: of the thinnest twentieth of its digits, and the thickest tenth
_CUT = 0.15  # ink at which a stroke ends


def prepare(component: Component) -> Floats:
    """Return a component as MNIST's makers would have made it, float32 ``(28, 28)`` in [0, 1], 0 if no ink is left.

    White on black, its ink scaled to a box of 20x20 pixels with its aspect ratio kept, anti-aliased, and placed with
    its centre of mass in the middle of 28x28 (LeCun, Bottou, Bengio and Haffner 1998, section III.A). Strokes that are
    thinner or thicker than most of MNIST's are made as wide as these.
    """
    reach = 1 if max(component.width, component.height) < 60 else 2  # pixels: the soft edge of its strokes
    left, top, right, bottom = component.box
    ink = component.ink[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach]
    mask = np.zeros_like(ink, np.uint8)
    mask[min(top, reach) :, min(left, reach) :][: component.height, : component.width] = component.mask
    near = cv2.dilate(mask, np.ones((2 * reach + 1,) * 2, np.uint8))
    large = _scale(np.minimum(ink / component.strength, 1) * near, _BOX * _FINE)
    large = np.asarray(cv2.copyMakeBorder(large, *(_BOX * _FINE // 8,) * 4, cv2.BORDER_CONSTANT))
    solid = (large > 0.5).astype(np.uint8)
    area, inner = (cv2.countNonZero(each) for each in (solid, cv2.erode(solid, np.ones((3, 3), np.uint8))))
    stroke = 2 * area / max(1, area - inner) / _FINE
    growth = min(max(stroke, _STROKES[0]), _STROKES[1]) - stroke
    if pixels := round(abs(growth) / 2 * _FINE):
        large = np.asarray((cv2.dilate if growth > 0 else cv2.erode)(large, np.ones((2 * pixels + 1,) * 2, np.uint8)))
    left, top, width, height = cv2.boundingRect((large > _CUT).astype(np.uint8))
    return place(large[top : top + height, left : left + width]) if width else np.zeros((_FIELD, _FIELD), np.float32)


def place(digit: Floats) -> Floats:
    """Return ink in the form of MNIST: in a box of 20x20 pixels, its centre of mass in the middle of 28x28.

    Args:
        digit: Float32 ``(H, W)``, 0 outside of the ink, which reaches to its edges.

    Returns:
        Float32 ``(28, 28)`` in [0, 1].
    """
    digit = _scale(digit, _BOX)
    digit = (digit / digit.max() * 255).round() / 255  # 256 grey levels, as MNIST has
    margins = []
    for axis, length in enumerate(digit.shape):
        centre = digit.sum(axis=1 - axis) @ np.arange(length) / digit.sum()
        before = min(max(round(_FIELD / 2 - centre), 0), _FIELD - length)
        margins.append((before, _FIELD - length - before))
    return np.pad(digit, margins)


def _scale(digit: Floats, side: int) -> Floats:
    factor = side / max(digit.shape)
    height, width = (max(1, round(factor * length)) for length in digit.shape)
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(digit, (width, height), interpolation=interpolation), np.float32)
