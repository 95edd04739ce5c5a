"""Telling what is no digit."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mnist_lit.network import MLP

REJECT = 0.01  # what part of MNIST's digits is refused, by default
REJECTOR = Path(__file__).with_name("rejector.ckpt")


def energy(images: Tensor) -> Tensor:
    """Return how much each image is like a digit: the log of the odds that it is one, float ``(N,)``.

    It is the logsumexp of the logits (energy: Liu, Wang, Owens and Li, "Energy-based out-of-distribution detection",
    2020) of a network that was trained for this alone, by outlier exposure (Hendrycks, Mazeika and Dietterich, "Deep
    anomaly detection with outlier exposure", 2019): with digits, and with letters, scribbles and turned digits, of
    which it learned that they are none. The probabilities of a network that knows digits alone are no measure of that:
    it may be certain of a letter.

    Args:
        images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on the CPU.
    """
    return _energy(images, _load()[0])


def refuse(images: Tensor, reject: float) -> list[str]:
    """Return why each image is no digit, or an empty text.

    Args:
        images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on the CPU.
        reject: What part of MNIST's digits would be refused, from 0, none, to less than 1: so many of the 5,000 that
            the network was not trained with.
    """
    if not reject:
        return [""] * len(images)
    network, scores = _load()
    limit = scores.quantile(reject, interpolation="lower")
    return [
        "" if score >= limit else "may be turned" if other >= limit else "no digit"
        for score, other in zip(upright_score(images, network), _turned_energy(images, network), strict=True)
    ]


def upright_score(images: Tensor, network: MLP) -> Tensor:
    """Return the energy of each image, by which it is refused; minus infinity if that of the turned one is far larger.

    A 9, turned by 90 degrees, is like a 6 to some extent, but much more like the 9 that it is.

    Args:
        images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1].
        network: That which tells digits from what is none.
    """
    score = _energy(images, network)
    return score.where(_turned_energy(images, network) < score + 5, -torch.inf)


def _turned_energy(images: Tensor, network: MLP) -> Tensor:
    # Of the image turned by 90 degrees, to that side on which it is larger.
    return torch.maximum(*(_energy(images.rot90(turns, (2, 3)), network) for turns in (1, 3)))


def _energy(images: Tensor, network: MLP) -> Tensor:
    with torch.inference_mode():
        energies: Tensor = network(images).logsumexp(dim=1)
    return energies


@cache
def _load() -> tuple[MLP, Tensor]:
    # The network, and the scores of digits that it was not trained with.
    checkpoint = torch.load(REJECTOR, weights_only=True)
    network = MLP(**checkpoint["hyper_parameters"])
    network.load_state_dict(checkpoint["state_dict"])
    return network.eval(), checkpoint["scores"]
