"""Random distortion of training images, a whole batch at once."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from mnist_lit.errors import check_range

_SIZE = 28  # pixels of an image along each side


@dataclass(frozen=True)
class RandomDistortion:
    """Rotates, shifts, scales, shears and bends each image by random amounts.

    Affine and elastic distortions (Simard, Steinkraus and Platt, "Best practices for convolutional neural networks
    applied to visual document analysis", 2003); an elastic distortion displaces the pixels by smooth random fields.

    One product gives, for each output pixel, the position ``(x, y)`` in the image that it is sampled from:
    ``grid (N, 2, 28, 28) = B (28, K) @ coefficients (N, 2, K, K) @ B.T``. The columns of B are functions of a pixel's
    coordinate along one axis. The coordinate itself and 1 make, by their products, the affine map. The products of
    K - 2 Gaussians, each with a random height, make a field as smooth as blurred white noise.

    Args:
        rotation: Largest angle in degrees, in either direction, from 0 to 180.
        shift: Largest shift in pixels along each axis, in either direction, from 0 to 14.
        scale: Width and height are each divided by a random number from ``1 - scale`` to ``1 + scale``; from 0 to
            less than 1. 0.1 makes sizes of 91 to 111 percent.
        shear: Largest slant, in either direction, from 0 to 1: the tangent of its angle.
        elastic: Standard deviation of the pixels' displacements along each axis, in pixels, from 0 to 14.
        elastic_sigma: Standard deviation in pixels of the Gaussian that smooths the displacements, from 1 to 28.

    Raises:
        UserError: If an argument is out of range.
    """

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    elastic_sigma: float = 4.0

    def __post_init__(self) -> None:
        for name, limit in {"rotation": 180, "shift": _SIZE // 2, "shear": 1, "elastic": _SIZE // 2}.items():
            check_range(name, getattr(self, name), at_least=0, at_most=limit)
        check_range("scale", self.scale, at_least=0, below=1)
        check_range("elastic_sigma", self.elastic_sigma, at_least=1, at_most=_SIZE)

    def __bool__(self) -> bool:
        return any((self.rotation, self.shift, self.scale, self.shear, self.elastic))

    @cached_property
    def _basis(self) -> Tensor:
        # Pixel centres in grid_sample's coordinates, where the image spans -1 to 1.
        pixels = (torch.arange(_SIZE) + 0.5) * 2 / _SIZE - 1
        basis = torch.stack((pixels, torch.ones_like(pixels)), dim=1)
        if self.elastic:
            centres = torch.linspace(-1, 1, math.ceil(_SIZE / self.elastic_sigma) + 1)
            gaussians = torch.exp(-(((pixels[:, None] - centres) * _SIZE / 2 / self.elastic_sigma) ** 2) / 2)
            basis = torch.cat((basis, F.normalize(gaussians, dim=1)), dim=1)  # heights and pixels: variance 1
        return basis

    def __call__(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        """Return distorted copies of images; a pixel that is sampled outside its image is black.

        Args:
            images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on any device.
            generator: Source of the random numbers, on the CPU; by default torch's.
        """
        basis = self._basis.to(images)
        grid = basis @ (self._draw(len(images), generator).to(images) @ basis.T)  # (N, 2, 28, 28)
        return F.grid_sample(images, grid.permute(0, 2, 3, 1), align_corners=False)

    def _draw(self, count: int, generator: Generator | None) -> Tensor:
        draws = torch.empty(6, count).uniform_(-1, 1, generator=generator)
        angle = draws[0] * math.radians(self.rotation)
        scale_x, scale_y = 1 + draws[1:3] * self.scale
        shear = draws[3] * self.shear
        size = self._basis.shape[1]
        coefficients = torch.zeros(count, 2, size, size)
        # Output pixel (x, y) samples the image at rotation @ [[scale_x, shear], [0, scale_y]] @ (x, y) + shift.
        # coefficients[:, c, i, j], for c the position's x or y, belongs to the i-th function of y and the j-th of x.
        cos, sin = angle.cos(), angle.sin()
        coefficients[:, 0, 1, 0], coefficients[:, 0, 0, 1] = cos * scale_x, cos * shear - sin * scale_y
        coefficients[:, 1, 1, 0], coefficients[:, 1, 0, 1] = sin * scale_x, sin * shear + cos * scale_y
        coefficients[:, :, 1, 1] = draws[4:].T * (self.shift * 2 / _SIZE)
        if self.elastic:
            heights = torch.randn(count, 2, size - 2, size - 2, generator=generator)
            coefficients[:, :, 2:, 2:] = heights * (self.elastic * 2 / _SIZE)
        return coefficients
