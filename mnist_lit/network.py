"""The network: fully connected layers in plain torch."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from mnist_lit.errors import UserError, check_range

Activation = Literal["identity", "relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"]

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class MLP(nn.Module):
    """A multilayer perceptron from images of 28x28 pixels to the logits of ten digits.

    Its weights start as torch's for ``nn.Linear``, drawn from the global generator, which ``seed_everything`` seeds.

    Args:
        hidden_sizes: Number of units of each hidden layer, each at least 1; empty for a linear classifier.
        activation: The function after each hidden layer; with ``identity`` the network is linear.

    Raises:
        UserError: If a hidden layer has no units or the activation is unknown.

    Example:
        >>> import torch
        >>> network = MLP()
        >>> network(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
        >>> sum(parameter.numel() for parameter in network.parameters())
        109386
    """

    def __init__(self, hidden_sizes: Sequence[int] = (128, 64), activation: Activation = "relu") -> None:
        super().__init__()
        for size in hidden_sizes:
            check_range(f"each of hidden_sizes {list(hidden_sizes)}", size, at_least=1)
        if activation not in _ACTIVATIONS:
            raise UserError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
        sizes = (28 * 28, *hidden_sizes)
        hidden: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            hidden += [nn.Linear(inputs, outputs), _ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 10))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float ``(N, 10)``, of float ``images`` ``(N, 1, 28, 28)`` with pixels in [0, 1]."""
        logits: Tensor = self.layers(images)
        return logits
