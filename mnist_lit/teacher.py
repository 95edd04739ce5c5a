"""Distillation: trained networks that teach another one."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lit.errors import UserError
from mnist_lit.files import damaged, load_whole
from mnist_lit.network import MLP


class Teacher:
    """Trained networks whose mean logits another network learns (Hinton, Vinyals and Dean 2015).

    Not an nn.Module: as a part of the network that it teaches, it would be trained and saved with it.

    Args:
        paths: Checkpoints of MNISTClassifiers.

    Attributes:
        checksums: SHA-256 of each checkpoint.

    Raises:
        UserError: If one of them is not there, cannot be read, is not whole, or holds something else.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._networks = [_read(path) for path in paths]
        self.checksums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

    def to(self, parameter: Tensor) -> None:
        """Move to the device and the precision of a parameter of the network that is taught."""
        for network in self._networks:
            network.to(parameter)

    def loss(
        self, logits: Tensor, images: Tensor, temperature: float, reduction: Literal["mean", "sum"] = "mean"
    ) -> Tensor:
        """Return how far a network's answers are from the teacher's: Kullback-Leibler divergence, in nats.

        Both softened by the temperature, and multiplied by its square, so that the gradients are as large as those of
        the cross-entropy with labels (section 2 of the paper).

        Args:
            logits: Of the network that is taught, ``(N, 10)``.
            images: What it was shown, ``(N, 1, 28, 28)``.
            temperature: What logits are divided by before their softmax, above 0.
            reduction: ``mean`` over the images, or ``sum``.
        """
        with torch.no_grad():
            taught = torch.stack([network(images) for network in self._networks]).mean(dim=0)
            probabilities = (taught / temperature).softmax(dim=1)
        log_probabilities = (logits / temperature).log_softmax(dim=1)
        # What kl_div calls mean is one over all the N x 10 numbers.
        divergence = F.kl_div(log_probabilities, probabilities, reduction="batchmean" if reduction == "mean" else "sum")
        return divergence * temperature**2


def _read(path: Path) -> MLP:
    if not path.is_file():
        raise UserError(f"teacher {path}: there is no such file; train it first, or name another checkpoint")
    checkpoint = load_whole(path)
    try:
        hparams = checkpoint["hyper_parameters"]
        network = MLP(hparams["hidden_sizes"], hparams["activation"])
        weights = {name.removeprefix("network."): value for name, value in checkpoint["state_dict"].items()}
        network.load_state_dict(weights)
    except (AttributeError, LookupError, RuntimeError, TypeError, UserError) as error:  # it holds something else
        raise UserError(damaged(path)) from error
    return network.eval().requires_grad_(False)
