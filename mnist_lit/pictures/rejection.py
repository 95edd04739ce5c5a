"""Rejection: how much an image is like a digit, and which images are refused."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mnist_lit.checkpoints import Checkpoint
from mnist_lit.network import MLP

REJECT = 0.01  # share of MNIST's digits that is refused by default
REJECTOR = Path(__file__).with_name("rejector.ckpt")


def energy(images: Tensor) -> Tensor:
    """Return how much each image is like a digit: the log of the odds that it is one, float ``(N,)``.

    It is the logsumexp of the logits (energy: Liu, Wang, Owens and Li, "Energy-based out-of-distribution detection",
    2020) of a network that was trained only for this, by outlier exposure (Hendrycks, Mazeika and Dietterich, "Deep
    anomaly detection with outlier exposure", 2019): on digits, and on letters, scribbles and turned digits as
    non-digits. The probabilities of a network that was trained only on digits do not measure this: it may be certain of
    a letter.

    Args:
        images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on the CPU.
    """
    return _energy(images, _load()[0])


def refuse(images: Tensor, reject: float) -> list[str]:
    """Return why each image is not a digit, or an empty text.

    Args:
        images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on the CPU.
        reject: Share of MNIST's digits that may be refused, at least 0 and below 1, measured on the 5,000 digits that
            the network was not trained on; 0 refuses nothing.
    """
    if not reject:
        return [""] * len(images)
    network, scores = _load()
    limit = scores.quantile(reject, interpolation="lower")
    return [
        "" if score >= limit else "may be turned" if turned >= limit else "not a digit"
        for score, turned in zip(*score_images(images, network), strict=True)
    ]


def score_images(images: Tensor, network: MLP) -> tuple[Tensor, Tensor]:
    """Return the score by which each image is refused, and the energy of the turned image, both ``(N,)``.

    The score is the image's energy, or minus infinity if the energy of the image turned by 90 degrees, to the left or
    to the right, is larger by 5: a turned 9 may be like a 6, but it is far more like a 9.

    Args:
        images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1].
        network: A network that tells digits from non-digits.
    """
    upright, *turned = (_energy(images.rot90(turns, (2, 3)), network) for turns in (0, 1, 3))
    larger = torch.maximum(*turned)
    return upright.where(larger < upright + 5, -torch.inf), larger


def _energy(images: Tensor, network: MLP) -> Tensor:
    with torch.inference_mode():
        energies: Tensor = network(images).logsumexp(dim=1)
    return energies


@cache
def _load() -> tuple[MLP, Tensor]:
    # The network, and its scores of digits that it was not trained on.
    checkpoint = Checkpoint(REJECTOR)
    return checkpoint.network(), checkpoint.content["scores"]
