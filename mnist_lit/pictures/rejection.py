"""Rejection: what an image is, by a small network that knows more than digits, and which images are refused."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from mnist_lit.checkpoints import load_whole
from mnist_lit.errors import check_range

REJECT = 0.01  # share of MNIST's digits that is refused by default
REJECTOR = Path(__file__).with_name("rejector.ckpt")
CLASSES = 14
PART, SEVERAL, OTHER, CROSSED_OUT = range(10, CLASSES)  # after the digits: part of one, several, anything else, a ``?``


def make_network() -> nn.Sequential:
    """Return the network, untrained: from images ``(N, 1, 28, 28)`` to the logits of 14 classes, ``(N, 14)``.

    Convolutions with strides in place of pooling (Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for
    simplicity: the all convolutional net", 2015), and 64 hidden units.
    """
    layers: list[nn.Module] = []
    for channels, more, kernel in (1, 20, 5), (20, 40, 3), (40, 80, 3):
        layers += [nn.Conv2d(channels, more, kernel, stride=2, padding=kernel // 2), nn.SiLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(80 * 4 * 4, 64), nn.SiLU(), nn.Linear(64, CLASSES))


def classify(images: Tensor, network: nn.Module | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return how much each image is like a digit: the log of the odds that it is one, and the same if it is turned.

    The network was trained only for this, by outlier exposure (Hendrycks, Mazeika and Dietterich, "Deep anomaly
    detection with outlier exposure", 2019): on digits, and on letters, scribbles, turned digits and what else is found
    in pictures. The probabilities of a network that was trained only on digits do not measure this: it may be certain
    of a letter.

    Args:
        images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on the CPU.
        network: In place of the package's.

    Returns:
        Of the images, and of the images turned by 90 degrees, to the left or to the right, the larger, both ``(N,)``;
        and the probabilities of the 14 classes, ``(N, 14)``.
    """
    network = network or _load()[0]
    with torch.inference_mode():
        upright, *turned = (network(images.rot90(turns, (2, 3))).log_softmax(dim=1) for turns in (0, 1, 3))
        return _log_odds(upright), torch.maximum(*map(_log_odds, turned)), upright.exp()


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
    upright, turned, classes = classify(images)
    return [
        "" if score >= limit else "may be turned" if other >= limit else "not a digit"
        for score, other in zip(scores(upright, turned, classes), turned, strict=True)
    ]


def scores(upright: Tensor, turned: Tensor, classes: Tensor) -> Tensor:
    """Return by what images are refused, from what ``classify`` returns: the log of the odds that they are digits.

    It is minus infinity where the turned one's is larger by 5: a turned 9 may be like a 6, but it is far more like a 9;
    and for what is most likely part of a digit, several digits or crossed out, as no digit of MNIST is.
    """
    is_one = (turned < upright + 5) & ~torch.isin(classes.argmax(dim=1), torch.tensor([PART, SEVERAL, CROSSED_OUT]))
    return upright.where(is_one, -torch.inf)


def _log_odds(log_probabilities: Tensor) -> Tensor:
    return log_probabilities[:, :PART].logsumexp(dim=1) - log_probabilities[:, PART:].logsumexp(dim=1)


@cache
def _load() -> tuple[nn.Sequential, Tensor]:
    # The network, and its scores of digits that it was not trained on.
    content, network = load_whole(REJECTOR), make_network()
    network.load_state_dict(content["state_dict"], assign=True)
    return network.float(), content["scores"]  # stored in half precision
