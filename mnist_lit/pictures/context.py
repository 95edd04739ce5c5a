"""Context: which components are digits, by what is around them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mnist_lit.pictures.components import Component
from mnist_lit.pictures.ink import Floats
from mnist_lit.pictures.value import STABLE

JUDGE = Path(__file__).with_name("judge.ckpt")
INPUTS = 22

# Lengths are in sizes of a component, and differences of sizes are of their logarithms.
_NEAR, _CLOSE = 1.5, 0.3  # gaps between digits of a number, and letters of a word
_ALIKE, _IN_LINE = 0.4, 0.6  # differences of size: letters of a text, and digits of a number
_SHADE = 0.3  # difference of strength, of its logarithm
_MAX_COUNT = 3  # of others that are counted


def judge(components: Sequence[Component], longer_side: int) -> list[bool]:
    """Return which components are digits, of all that were found in one ink, each with its image.

    A small network looks at each with what ``relate`` says of the others, twice: the others count as digits first by
    their likeness, then by what it has found itself.

    Args:
        components: In pixels of a picture.
        longer_side: Of the picture, in pixels.
    """
    if not components:
        return []
    described, network = describe(components), _load()
    with torch.inference_mode():
        first = network(relate(described, longer_side)).sigmoid()
        is_digit: list[bool] = (network(relate(described, longer_side, first[:, 0].numpy())) > 0)[:, 0].tolist()
    return is_digit


def make_network() -> nn.Sequential:
    """Return the network, untrained: from ``(N, 22)`` to the log of the odds of a digit, ``(N, 1)``."""
    return nn.Sequential(nn.Linear(INPUTS, 24), nn.SiLU(), nn.Linear(24, 1))


def describe(components: Sequence[Component]) -> Floats:
    """Return what ``relate`` needs to know of components, float64 ``(N, 10)``."""
    rows = [
        (*each.box, each.likeness, each.turned, each.levels, min(1, each.at_border), each.strength, each.mask.mean())
        for each in components
    ]
    return np.array(rows).reshape(-1, 10)


def relate(described: Floats, longer_side: float, likely: Floats | None = None) -> Tensor:
    """Return each component and its relations to the others, float32 ``(N, 22)``.

    Args:
        described: By ``describe``, ``(N, 10)``.
        longer_side: Of the picture, in pixels.
        likely: Probabilities that they are digits, ``(N,)``; by default from their likeness.
    """
    left, top, right, bottom, likeness, turned, levels, at_border, strength, filled = described.T
    if likely is None:
        likely = (1 + likeness) / 2 * np.minimum(1, levels / STABLE)
    height, width = bottom - top, right - left
    size = np.maximum(height, 0.6 * width)
    # Pairs (N, N): row by row one component, column by column the others.
    is_other = ~np.eye(len(size), dtype=bool)
    larger, darker = (np.log(values) - np.log(values)[:, None] for values in (size, strength))
    weights = is_other * likely * size**1.5
    weights = weights / np.maximum(weights.sum(axis=1), 0.01 * size**1.5)[:, None]
    common = np.minimum(bottom, bottom[:, None]) - np.maximum(top, top[:, None])
    gaps = np.maximum(left - right[:, None], left[:, None] - right) / size[:, None]
    is_in_line = is_other & (common > 0.4 * np.minimum(height, height[:, None])) & (abs(larger) < _IN_LINE)
    is_near, is_close = is_in_line & (gaps < _NEAR), is_in_line & (gaps < _CLOSE)
    is_inside = is_other & (left >= left[:, None]) & (right <= right[:, None])
    is_inside &= (top >= top[:, None]) & (bottom <= bottom[:, None])
    is_alike = is_other & (abs(larger) < _ALIKE)
    is_of_shade = is_alike & (abs(darker) < _SHADE)

    def count(pairs: Floats, chance: Floats) -> Floats:
        return np.asarray(np.minimum(_MAX_COUNT, (pairs * chance).sum(axis=1)))

    columns = [
        _log_odds(likeness),
        _log_odds(turned),
        np.log(levels),
        at_border,
        strength,
        np.log(size / longer_side),
        np.log(height / width),
        filled,
        (weights * larger).sum(axis=1).clip(-1.5, 1.5),  # than it, in the mean of the others that are likely digits
        (weights * darker).sum(axis=1).clip(-1.5, 1.5),
        weights.sum(axis=1),  # 0 if there is none
        count(is_near, likely),
        count(is_near, 1 - likely),
        count(is_close, likely),
        count(is_close, 1 - likely),
        count(is_inside, likely),
        count(is_inside.T, likely),
        (is_alike * (1 - likely)).sum(axis=1) / np.maximum(_MAX_COUNT, is_alike.sum(axis=1)),
        np.log1p(is_alike.sum(axis=1)),
        (is_of_shade * likely).sum(axis=1) / np.maximum(1, is_of_shade.sum(axis=1)),
        np.log(strength / strength.max()),
        np.where(is_other & (likely > 0.5), larger, -1).max(axis=1).clip(-1, 1.5),  # the largest likely digit
    ]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))


def _log_odds(likeness: Floats) -> Floats:
    # That it is a digit (``energy``), limited and in parts of 4, as the other inputs are of about 1.
    return np.asarray(np.log((1 + likeness).clip(1e-3) / (1 - likeness).clip(1e-3)) / 4)


@cache
def _load() -> nn.Sequential:
    network = make_network()
    network.load_state_dict(torch.load(JUDGE, weights_only=True), assign=True)  # float32, whatever the default is
    return network
