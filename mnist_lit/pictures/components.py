"""Components: connected ink, each with its own threshold, from a tree of connected components."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from mnist_lit.pictures.ink import Floats
from mnist_lit.pictures.rejection import CLASSES, PART

Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]

_THRESHOLDS = 0.6 * 0.78 ** np.arange(9)  # of ink
_NOISE = 4  # standard deviations of the noise that a threshold is above
_MAX_OUTLINES = 4000  # outlines at a threshold: more are texture
_MIN_IOU = 0.8  # intersection over union of the boxes of a component that hardly changes from one threshold to the next
_HALO = 0.3  # parts of a component's strength: below, JPEG and blur widen the component


@dataclass(eq=False)
class Component:
    """Connected ink, or several parts of one digit.

    Attributes:
        box: Left, top, right and bottom edge, in pixels.
        mask: Which pixels of its box are its ink.
        ink: Of the picture, ``(H, W)`` in [0, 1].
        strength: Ink of its darker pixels.
        at_border: How much of it lies on the border of the picture, in parts of its longer side; 1 more for each
            axis along which it reaches from border to border.
        levels: Number of thresholds at which it is nearly the same.
        parts: The components into which it falls at the next higher threshold.
        pieces: Number of connected components: 1, more if they are joined, 0 for a part of one.
        image: The component as an image like MNIST's, float32 ``(28, 28)``.
        classes: Probabilities of what the image shows, ``(14,)``: see ``rejection``.
        turned: Likeness of the image turned by 90 degrees, to the left or to the right.
    """

    box: Box
    mask: Mask
    ink: Floats
    strength: float
    at_border: float = 0
    levels: int = 1
    parts: "list[Component]" = field(default_factory=list)
    pieces: float = 1
    image: Floats = field(init=False)
    classes: Floats = field(default_factory=lambda: np.zeros(CLASSES))
    turned: float = -1

    @property
    def likeness(self) -> float:
        """How much the image is like a digit, from -1 to 1; 0 for even odds."""
        return 2 * float(self.classes[:PART].sum()) - 1

    @property
    def width(self) -> int:
        """Width of its box."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> int:
        """Height of its box."""
        return self.box[3] - self.box[1]

    @cached_property
    def area(self) -> int:
        """Number of pixels of its ink."""
        return int(np.count_nonzero(self.mask))

    @property
    def fill(self) -> float:
        """Part of its box that is its ink."""
        return self.area / self.mask.size

    @cached_property
    def stroke(self) -> float:
        """Width of its strokes, in pixels."""
        mask = cv2.copyMakeBorder(self.mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        return 4 * float(cv2.distanceTransform(mask, cv2.DIST_L2, 3).sum()) / self.area  # a quarter, in the mean

    def overlaps(self, other: "Component") -> bool:
        """Return whether more than a tenth of the smaller one's ink is the other's, too."""
        left, top = max(self.box[0], other.box[0]), max(self.box[1], other.box[1])
        right, bottom = min(self.box[2], other.box[2]), min(self.box[3], other.box[3])
        if left >= right or top >= bottom:
            return False
        one, two = (
            each.mask[top - each.box[1] : bottom - each.box[1], left - each.box[0] : right - each.box[0]]
            for each in (self, other)
        )
        return bool(np.count_nonzero(one & two) > 0.1 * min(self.area, other.area))

    def crop(self, mask: Mask) -> "Component":
        """Return the part of it where a mask, as large as its own, is true."""
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        left, top = self.box[0] + x, self.box[1] + y
        box = left, top, left + width, top + height
        mask = mask[y : y + height, x : x + width]
        return Component(box, mask, self.ink, self.strength, self.at_border, self.levels, pieces=0)


def join(components: Sequence[Component]) -> Component:
    """Return several components of one ink as one."""
    edges = np.array([component.box for component in components])
    left, top, right, bottom = (int(edge) for edge in (*edges[:, :2].min(axis=0), *edges[:, 2:].max(axis=0)))
    mask = np.zeros((bottom - top, right - left), bool)
    for each in components:
        x, y = each.box[0] - left, each.box[1] - top
        mask[y : y + each.height, x : x + each.width] |= each.mask
    strength, at_border, levels = (
        max(getattr(component, name) for component in components) for name in ("strength", "at_border", "levels")
    )
    pieces = sum(component.pieces for component in components)
    return Component((left, top, right, bottom), mask, components[0].ink, strength, at_border, levels, pieces=pieces)


def find_components(ink: Floats, min_size: float) -> list[Component]:
    """Return the connected ink at the lowest threshold, each component with its parts at higher ones.

    A tree of connected components (Jones, "Connected filtering and segmentation using component trees", 1999), in which
    one that hardly changes from one threshold to the next is the same (maximally stable extremal regions: Matas, Chum,
    Urban and Pajdla, "Robust wide baseline stereo", 2002). Specks are left out.

    Args:
        ink: ``(H, W)`` in [0, 1].
        min_size: Longer side of the smallest component, in pixels.
    """
    rough = ink - cv2.GaussianBlur(ink, (0, 0), 2)
    noise = 2 * 1.48 * float(np.median(np.abs(rough[::3, ::3])))  # the blur of the ink has halved it
    components: list[Component] = []  # at the threshold before
    for threshold in _THRESHOLDS:
        if threshold < _NOISE * noise:
            break
        binary = (ink > threshold).astype(np.uint8)
        outlines, nesting = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        if len(outlines) > _MAX_OUTLINES:
            break
        labels = cv2.connectedComponents(binary)[1]
        parts: dict[int, list[Component]] = {}
        for each in components:
            parts.setdefault(int(labels[each.box[1], each.box[0] + each.mask[0].argmax()]), []).append(each)
        components = []
        for outline, (_, _, _, outer) in zip(outlines, nesting[0] if outlines else (), strict=True):
            left, top, width, height = cv2.boundingRect(outline)
            if outer < 0 and max(width, height) >= min_size and min(width, height) > 1:  # not a hole
                box, label = (left, top, left + width, top + height), int(labels[tuple(outline[0, 0, ::-1])])
                components.append(_grow(box, label, labels, ink, threshold, parts.get(label, [])))
    return components


def walk(components: Sequence[Component]) -> Iterator[Component]:
    """Yield components, their parts, the parts of these, and so on."""
    for component in components:
        yield component
        yield from walk(component.parts)


def _grow(box: Box, label: int, labels: MatLike, ink: Floats, threshold: float, parts: list[Component]) -> Component:
    # A component with the parts that it had at the threshold before: a new one, or its largest part, grown a little.
    left, top, right, bottom = box
    largest = max(parts, key=lambda part: part.mask.size, default=None)  # within the box: their IoU is that of areas
    levels = 1
    if largest and largest.mask.size / ((right - left) * (bottom - top)) > _MIN_IOU:
        levels, parts = 1 + largest.levels, [*largest.parts, *(part for part in parts if part is not largest)]
        if threshold < _HALO * largest.strength:
            largest.levels, largest.parts = levels, parts
            return largest
    mask = labels[top:bottom, left:right] == label
    values = ink[top:bottom, left:right][mask]
    touched = [np.count_nonzero(side == label) for side in (labels[:, 0], labels[0], labels[:, -1], labels[-1])]
    spans = sum(touched[axis] > 0 and touched[axis + 2] > 0 for axis in (0, 1))
    at_border = sum(touched) / max(mask.shape) + spans
    sample = np.sort(values[:: 1 + len(values) // 10_000])  # np.percentile's checks take longer than this
    strength = float(sample[3 * len(sample) // 4])
    return Component(box, mask, ink, strength, at_border, levels, parts)
