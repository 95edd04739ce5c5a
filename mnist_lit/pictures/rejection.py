"""Rejection: how much an image is like a digit, and which images are refused."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mnist_lit.checkpoints import Checkpoint
from mnist_lit.errors import check_range
from mnist_lit.network import MLP

REJECT = 0.01  # share of MNIST's digits that is refused by default
REJECTOR = Path(__file__).with_name("rejector.ckpt")


def energies(images: Tensor, network: MLP | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return how much each image is like a digit: the log of the odds that it is one, and the same if it is turned.

    It is the logsumexp of the logits (energy: Liu, Wang, Owens and Li, "Energy-based out-of-distribution detection",
    2020) of a network that was trained only for this, by outlier exposure (Hendrycks, Mazeika and Dietterich, "Deep
    anomaly detection with outlier exposure", 2019): on digits, and on letters, scribbles and turned digits as
    non-digits. The probabilities of a network that was trained only on digits do not measure this: it may be certain of
    a letter.

    Args:
        images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on the CPU.
        network: In place of the package's.

    Returns:
        Of the images, and of the images turned by 90 degrees, to the left or to the right, the larger, both ``(N,)``;
        and the probabilities of the ten digits, if they are digits, ``(N, 10)``.
    """
    network = network or _load()[0]
    with torch.inference_mode():
        logits, *turned = (network(images.rot90(turns, (2, 3))) for turns in (0, 1, 3))
        return logits.logsumexp(1), torch.maximum(*(each.logsumexp(1) for each in turned)), logits.softmax(1)


def refuse(images: Tensor, reject: float) -> list[str]:
    """Return why each image is not a digit, or an empty text.

    Args:
        images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on the CPU.
        reject: Share of MNIST's digits that may be refused, at least 0 and below 1, measured on the 5,000 digits that
            the network was not trained on; 0 refuses nothing.

    Raises:
        UserError: If ``reject`` is out of range.
    """
    if not check_range("reject", reject, at_least=0, below=1):
        return [""] * len(images)
    limit = _load()[1].quantile(reject, interpolation="lower")
    upright, turned, _ = energies(images)
    return [
        "" if score >= limit else "may be turned" if other >= limit else "not a digit"
        for score, other in zip(scores(upright, turned), turned, strict=True)
    ]


def scores(upright: Tensor, turned: Tensor) -> Tensor:
    """Return by what images are refused: ``energies``, minus infinity where that of the turned image is larger by 5.

    A turned 9 may be like a 6, but it is far more like a 9.
    """
    return upright.where(turned < upright + 5, -torch.inf)


@cache
def _load() -> tuple[MLP, Tensor]:
    # The network, and its scores of digits that it was not trained on.
    checkpoint = Checkpoint(REJECTOR)
    return checkpoint.network(), checkpoint.content["scores"]
