"""Context: which candidates are digits, by what is around them and what they overlap."""

from collections.abc import Sequence
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mnist_lit.pictures.components import Component, Mask
from mnist_lit.pictures.ink import Floats
from mnist_lit.pictures.rejection import SEVERAL

JUDGE = Path(__file__).with_name("judge.ckpt")
INPUTS, LOOKS = 46, 3
LIKELY, _MAY_BE = -0.5, -2  # log of the odds; at 0, far more digits would be lost than other things taken


class Candidates(NamedTuple):
    """What is known of candidates before they are judged."""

    values: Floats  # (N, 26): box, likeness, turned, levels, at_border, strength, pieces, fill, stroke, classes
    overlaps: Mask  # (N, N)


def judge(components: Sequence[Component], longer_side: int) -> list[tuple[Component, float]]:
    """Return the candidates that are digits, none of which overlaps another, with the log of their odds, best first.

    A small network looks at each with what ``relate`` says of the others, three times (auto-context: Tu, "Auto-context
    and its application to high-level vision tasks", 2008): first without the others, then with those that it took
    before. If none is likely a digit, those that may be one and look like one are returned.

    Args:
        components: Of one ink, each with its image, in pixels of a picture.
        longer_side: Of the picture, in pixels.
    """
    if not components:
        return []
    candidates, network = describe(components), _load()
    with torch.inference_mode():
        odds: Floats = network(relate(candidates, longer_side))[:, 0].numpy()
        for _ in range(LOOKS - 1):
            odds = network(relate(candidates, longer_side, odds))[:, 0].numpy()
    taken = [(components[index], float(odds[index])) for index in take(odds, candidates.overlaps)]
    likely = [each for each in taken if each[1] > LIKELY]
    return likely or [each for each in taken if each[1] > _MAY_BE and each[0].likeness > 0]


def take(odds: Floats, overlaps: Mask) -> list[int]:
    """Return which candidates are taken, the best first, none that overlaps a better one."""
    taken: list[int] = []
    is_free = np.ones(len(odds), bool)
    for index in np.argsort(-odds, kind="stable").tolist():
        if is_free[index]:
            taken.append(index)
            is_free &= ~overlaps[index]
    return taken


def make_network() -> nn.Sequential:
    """Return the network, untrained: from ``(N, 46)`` to the log of the odds of a digit, ``(N, 1)``."""
    return nn.Sequential(nn.Linear(INPUTS, 64), nn.SiLU(), nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 1))


def describe(components: Sequence[Component]) -> Candidates:
    """Return what ``relate`` needs to know of candidates."""
    known = attrgetter("likeness", "turned", "levels", "at_border", "strength", "pieces", "fill", "stroke")
    values = np.array([(*each.box, *known(each), *each.classes) for each in components])
    left, top, right, bottom = values[:, :4].T
    meets = (left < right[:, None]) & (top < bottom[:, None])
    overlaps = np.zeros(meets.shape, bool)
    for one, other in np.argwhere(np.triu(meets & meets.T, 1)):
        overlaps[one, other] = overlaps[other, one] = components[one].overlaps(components[other])
    return Candidates(values, overlaps)


def relate(candidates: Candidates, longer_side: float, odds: Floats | None = None) -> Tensor:
    """Return what the network is given of each candidate, float32 ``(N, 46)``.

    Args:
        candidates: By ``describe``.
        longer_side: Of the picture, in pixels.
        odds: The log of the odds that they are digits, ``(N,)``, if the network has looked before.
    """
    values, overlaps = candidates
    left, top, right, bottom, likeness, turned, levels, at_border, strength, pieces, fill, stroke, *classes = values.T
    height, width = bottom - top, right - left
    size = np.maximum(height, 0.6 * width)
    is_taken = np.zeros(len(size), bool)
    if odds is not None:
        is_taken[take(odds, overlaps)] = True
    known = _log_odds(likeness) if odds is None else odds.clip(-20, 20)
    likely = 1 / (1 + np.exp(-known))

    # Pairs (N, N): row by row one candidate, column by column the others. Lengths are in sizes of the one.
    is_larger = overlaps & (size >= size[:, None])
    is_part = overlaps & (size < size[:, None])
    is_other = is_taken & ~overlaps & ~np.eye(len(size), dtype=bool)
    larger, darker, wider = (np.log(each) - np.log(each)[:, None] for each in (size, strength, stroke))
    weights = is_other * likely * size**1.5
    weights = weights / np.maximum(weights.sum(axis=1), 0.01 * size**1.5)[:, None]
    across, down = (
        np.maximum(start - end[:, None], start[:, None] - end) / size[:, None]
        for start, end in ((left, right), (top, bottom))
    )
    middle = (top + bottom) / 2
    higher = (middle - middle[:, None]) / size[:, None]
    apart = (  # how far another is from being in its row, of its kind, and its neighbour; the factors were not tuned
        3 * abs(higher) + 2 * abs(larger) + 0.5 * across.clip(0),
        4 * abs(larger) + 4 * abs(darker),
        4 * np.maximum(across, down).clip(0) - larger.clip(-2, 0),
    )

    def best(pairs: Mask) -> Floats:  # the odds of the best one, limited and in parts of 4; -1.5 if there is none
        return np.asarray(np.where(pairs, known.clip(-5, 5) / 4, -1.5).max(axis=1))

    def mean(values: Floats) -> Floats:  # of the others that are likely digits
        return np.asarray((weights * values).sum(axis=1).clip(-1.5, 1.5))

    closeness = [is_other * np.exp(-each) for each in apart]
    around = [each * share for each in closeness for share in (likely, 1 - likely)]
    columns = [
        _log_odds(likeness) / 4,  # inputs are about as large as 1
        _log_odds(turned) / 4,
        np.log(levels),
        at_border,
        strength,
        np.log(size / longer_side),
        np.log(height / width),
        np.log(stroke / size),
        fill,
        pieces == 0,
        pieces > 1,
        *classes,
        np.log(strength / strength.max()),
        best(is_larger),
        best(is_part),
        np.where(is_larger, classes[SEVERAL], 0).max(axis=1),  # part of touching digits
        *map(mean, (larger, darker, wider)),
        weights.sum(axis=1),  # 0 if there is none
        *(each.max(axis=1) for each in around),
        *(1 - np.exp(-each.sum(axis=1)) for each in around),  # limited: a page may have hundreds
        np.full(len(size), odds is not None),
    ]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))


def _log_odds(likeness: Floats) -> Floats:
    # Of being a digit, limited.
    return np.asarray(np.log((1 + likeness).clip(1e-3) / (1 - likeness).clip(1e-3)))


@cache
def _load() -> nn.Sequential:
    network = make_network()
    network.load_state_dict(torch.load(JUDGE, weights_only=True), assign=True)  # float32, whatever the default is
    return network
