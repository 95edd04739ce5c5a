"""The network, in plain torch: fully connected layers, after one that makes digits upright."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_lit.errors import UserError, check_range

Activation = Literal["identity", "relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"]
_LAYERS = nn.Identity, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid
_ACTIVATIONS = dict(zip(get_args(Activation), _LAYERS, strict=True))
UPRIGHT_SHAPE = (1, 784)  # of an image that is upright already, unlike the pixels of a picture


class Upright(nn.Module):
    """Shears and scales each digit so that all stand upright and have about the same width and height.

    Deslanted by moments, after LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
    recognition" (1998); the normal width is after Cireşan, Meier, Gambardella and Schmidhuber, "Convolutional neural
    network committees for handwritten character classification" (2011), here the standard deviation of the ink.
    It has no parameters. A blank image stays as it is.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return float ``images`` ``(N, 1, 28, 28)`` upright and centred on their ink, in the same range of pixels."""
        background = images.float().amin((2, 3), keepdim=True)  # below 0 if a user normalised the pixels
        ink = (images - background)[:, 0]  # in single precision: variances are small differences
        at = torch.linspace(-27 / 28, 27 / 28, 28, device=images.device, dtype=ink.dtype)  # half() would round a buffer
        mass = ink.sum((1, 2)).clamp(min=1e-9)[:, None]
        sums = torch.stack((ink.sum(1), ink.sum(2))) / mass  # of the columns and of the rows: (2, N, 28)
        centre = (sums * at).sum(2, keepdim=True)
        x, y = centre.unbind()
        # Plus the variance of a square pixel: a thin line, or a single pixel, has some width.
        var_x, var_y = ((sums * (at - centre) ** 2).sum(2, keepdim=True) + 1 / (3 * 28**2)).unbind()
        covariance = ((ink * (at - x)[:, None]).sum(2) * (at - y)).sum(1, keepdim=True) / mass
        slant = (covariance / var_y).clamp(-1, 1)
        var_x = var_x - 2 * slant * covariance + slant**2 * var_y  # after the shear
        # Standard deviations become 0.33 and 0.42, within limits: else a 1 would become as wide as a 0.
        across = at * (var_x.sqrt() / 0.33).clamp(1 / 1.7, 1 / 0.65)
        down = at * (var_y.sqrt() / 0.42).clamp(1 / 1.6, 1 / 0.85)
        from_x = (x + across)[:, None] + (slant * down)[:, :, None]
        grid = torch.stack((from_x, (y + down)[:, :, None].expand_as(from_x)), dim=3)
        return (F.grid_sample(ink[:, None], grid, align_corners=False) + background).to(images.dtype)


class MLP(nn.Module):
    """A multilayer perceptron from images of 28x28 pixels to the logits of ten digits.

    Its weights start as torch's for ``nn.Linear``, drawn from the global generator, which ``seed_everything`` seeds.

    Args:
        hidden_sizes: Number of units of each hidden layer, each at least 1; empty for a linear classifier.
        activation: The function after each hidden layer; with ``identity`` the layers are linear.
        upright: Whether images are made upright before the first layer.

    Raises:
        UserError: If a hidden layer has no units or the activation is unknown.
    """

    def __init__(
        self, hidden_sizes: Sequence[int] = (128, 64), activation: Activation = "relu", upright: bool = True
    ) -> None:
        super().__init__()
        if activation not in list(_ACTIVATIONS):
            raise UserError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
        sizes = [28 * 28, *(check_range("each of hidden_sizes", n, at_least=1, is_whole=True) for n in hidden_sizes)]
        hidden = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), _ACTIVATIONS[activation]())]
        self.upright = Upright() if upright else nn.Identity()
        self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 10))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float ``(N, 10)``, of float ``images``, ``(N, 1, 28, 28)`` with pixels in [0, 1].

        They may be upright already, ``(N, 1, 784)``: a loader does it once for all epochs. Other shapes: UserError.
        """
        if images.shape[1:] == (1, 28, 28):
            images = self.upright(images)
        elif images.shape[1:] != UPRIGHT_SHAPE or not isinstance(self.upright, Upright):
            raise UserError(f"images must be float (N, 1, 28, 28), got {tuple(images.shape)}")
        return cast(Tensor, self.layers(images))
