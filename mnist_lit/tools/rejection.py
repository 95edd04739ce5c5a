"""Telling what is no digit."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lit.errors import UserError
from mnist_lit.network import MLP
from mnist_lit.tools.figures import last_hidden

_BANK = 10_000


class Rejector:
    """Tells images that are unlike everything that a network was trained on.

    How strange an image is: its distance to the nearest of 10,000 training images in the network's last hidden layer,
    times that among the images themselves, blurred, divided by its energy, the logsumexp of its logits. So nearest
    neighbours guide the energy (Park, Jung and Teoh, "Nearest neighbor guidance for out-of-distribution detection",
    2023). The distances are 1 - cosine. The network's own probability is no measure of strangeness: it may be certain
    of a letter.

    Args:
        network: On the CPU.
        images: Training images, uint8 ``(N, 28, 28)``. The first 10,000 are neighbours, the next 10,000 say how strange
            a digit may be.
        reject: What part of the digits that the network was trained on would be refused, above 0 and below 1.

    Raises:
        UserError: If there are too few images to tell.
    """

    def __init__(self, network: MLP, images: Tensor, reject: float) -> None:
        if len(images) < 1000:
            raise UserError(f"{len(images)} training images do not tell what is no digit: set --reject 0")
        self._network = network
        bank = min(_BANK, len(images) // 2)
        with torch.inference_mode():
            neighbours = images[:bank].unsqueeze(1) / 255
            self._hidden = F.normalize(last_hidden(network, neighbours), dim=1)
            self._blurred = _blur(neighbours)
            others = images[bank : 2 * bank].unsqueeze(1) / 255
            self._limit = float(self._strangeness(others).quantile(1 - reject))

    def _strangeness(self, images: Tensor) -> Tensor:
        parts = []
        for part in images.split(1000):
            hidden = last_hidden(self._network, part)
            distance = 1 - (F.normalize(hidden, dim=1) @ self._hidden.T).amax(dim=1)
            distance *= 1 - (_blur(part) @ self._blurred.T).amax(dim=1)
            parts.append(distance / self._network.layers[-1](hidden).logsumexp(dim=1).clamp(min=0.1))
        return torch.cat(parts)

    @torch.inference_mode()
    def reasons(self, images: Tensor) -> list[str]:
        """Return why each image is refused, empty for a digit.

        Args:
            images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1].
        """
        upright = self._strangeness(images)
        turned = torch.stack([self._strangeness(images.rot90(times, (2, 3))) for times in (1, 3)]).amin(dim=0)
        return [
            "" if one <= self._limit else "may be turned" if other <= self._limit else "no digit"
            for one, other in zip(upright.tolist(), turned.tolist(), strict=True)
        ]


def _blur(images: Tensor) -> Tensor:
    return F.normalize(F.avg_pool2d(images, kernel_size=4, stride=2, padding=1).flatten(1), dim=1)
