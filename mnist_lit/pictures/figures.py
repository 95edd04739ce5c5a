"""Figures: connected ink that a pen may have drawn."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from mnist_lit.pictures.ink import Floats


@dataclass(frozen=True, eq=False)
class Figure:
    """Connected ink, or several parts of one digit.

    Edges are cached, since each figure is compared with each other one.

    Attributes:
        left: Left edge of its box, in pixels.
        top: Top edge of its box, in pixels.
        mask: Which pixels of its box are its ink.
        ink: Sum of the ink over its pixels.
        strength: Ink of its darker pixels.
        is_at_border: Whether it touches the border of the picture.
    """

    left: int
    top: int
    mask: npt.NDArray[np.bool_]
    ink: float
    strength: float
    is_at_border: bool = False

    @cached_property
    def right(self) -> int:
        """Right edge of its box."""
        return self.left + self.width

    @cached_property
    def bottom(self) -> int:
        """Bottom edge of its box."""
        return self.top + self.height

    @cached_property
    def width(self) -> int:
        """Width of its box."""
        return int(self.mask.shape[1])

    @cached_property
    def height(self) -> int:
        """Height of its box."""
        return int(self.mask.shape[0])

    @property
    def size(self) -> int:
        """Longer side of its box."""
        return max(self.width, self.height)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom edge."""
        return self.left, self.top, self.right, self.bottom

    @property
    def is_wide(self) -> bool:
        """Whether it is a stroke, at most a part of a digit."""
        return self.width > 2.2 * self.height

    def lies_within(self, other: "Figure") -> bool:
        """Return whether its box is inside another figure's box."""
        is_beside = self.left >= other.left and self.right <= other.right
        return is_beside and self.top >= other.top and self.bottom <= other.bottom

    def gap(self, other: "Figure") -> int:
        """Return the distance to another figure's box, negative where they overlap."""
        beside = max(self.left, other.left) - min(self.right, other.right)
        return max(beside, self.top - other.bottom, other.top - self.bottom)

    def part(self, start: int, end: int) -> "Figure":
        """Return the part of it in the columns from ``start`` to ``end``."""
        mask = self.mask[:, start:end]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        share = mask.sum() / self.mask.sum()
        mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        left, top = self.left + start + int(columns[0]), self.top + int(rows[0])
        return Figure(left, top, mask, share * self.ink, self.strength, self.is_at_border)

    def __or__(self, other: "Figure") -> "Figure":
        left, top = min(self.left, other.left), min(self.top, other.top)
        mask = np.zeros((max(self.bottom, other.bottom) - top, max(self.right, other.right) - left), bool)
        for each in self, other:
            mask[each.top - top : each.bottom - top, each.left - left : each.right - left] |= each.mask
        return Figure(left, top, mask, self.ink + other.ink, self.strength, self.is_at_border or other.is_at_border)


def find_figures(ink: Floats, threshold: float) -> Iterator[Figure]:
    """Yield the connected components of the ink above a threshold that a pen may have drawn as (part of) a digit.

    Left out are specks, solid components (a thumb, a desk), components that hold others (frames, boxes, ruled lines
    that cross), components that the border cuts off, and texture.

    Args:
        ink: ``(H, W)`` in [0, 1].
        threshold: In the unit of the ink.
    """
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
        held = sizes[large][is_inside] / sizes[label]  # includes the component itself
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
        if rim > 0.95 * sizes[label] and not is_crop:  # cut off by the border, or around everything else
            continue
        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3).max()
        if 2 * depth > 0.5 * sizes[label]:  # solid
            continue
        yield Figure(left, top, mask, float(values.sum()), float(np.percentile(values, 75)), rim > 0)


def _encloses(mask: npt.NDArray[np.bool_], others: npt.NDArray[np.int32], left: int, top: int) -> bool:
    # Whether another component, given by its box, is in a hole of the mask.
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    return any(filled[y - top + height // 2, x - left + width // 2] for x, y, width, height, _ in others)
