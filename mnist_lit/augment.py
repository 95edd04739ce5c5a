"""Distorted copies of training images: each image moved and bent in its own way, a whole batch at once."""

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
    """Rotates, shifts, scales, shears and bends each image by random amounts; with zero strengths not at all.

    Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document analysis"
    (2003): affine distortions, and elastic ones, displacements of each pixel that are smooth random fields.

    Where each pixel is sampled is one product: ``grid (N, 2, 28, 28) = F (28, K) @ coefficients (N, 2, K, K) @ F.T``.
    The columns of F are functions of a pixel's coordinate along one axis: the coordinate and 1 make a
    rotation, scale, shear and shift; K - 2 Gaussians with random heights make a field as smooth as blurred noise.

    Args:
        rotation: Largest angle in degrees, either way, from 0 to 180.
        shift: Largest shift in pixels along each axis, either way, from 0 to 14.
        scale: Width and height are each divided by a random number from ``1 - scale`` to ``1 + scale``; from 0 to
            less than 1. 0.1 makes sizes of 91 to 111 percent.
        shear: Largest slant, either way, from 0 to 1: the tangent of its angle.
        elastic: Standard deviation of the pixels' displacements along each axis, in pixels, from 0 to 14.
        elastic_sigma: Standard deviation in pixels of the Gaussian that smooths the displacements, from 1 to 28.

    Raises:
        UserError: If an argument is out of range.

    Example:
        >>> distort = RandomDistortion(rotation=10, elastic=0.8)
        >>> distort(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5, 1, 28, 28])
    """

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    elastic_sigma: float = 4.0

    def __post_init__(self) -> None:
        check_range("rotation", self.rotation, at_least=0, at_most=180)
        check_range("shift", self.shift, at_least=0, at_most=_SIZE // 2)
        check_range("scale", self.scale, at_least=0, below=1)
        check_range("shear", self.shear, at_least=0, at_most=1)
        check_range("elastic", self.elastic, at_least=0, at_most=_SIZE // 2)
        check_range("elastic_sigma", self.elastic_sigma, at_least=1, at_most=_SIZE)

    def __bool__(self) -> bool:
        """Return whether images are distorted at all."""
        return any((self.rotation, self.shift, self.scale, self.shear, self.elastic))

    @cached_property
    def _functions(self) -> Tensor:
        # grid_sample's coordinates: those of the pixels' centres in an image that reaches from -1 to 1.
        pixels = (torch.arange(_SIZE) + 0.5) * 2 / _SIZE - 1
        functions = torch.stack((pixels, torch.ones_like(pixels)), dim=1)
        if self.elastic:
            centres = torch.linspace(-1, 1, math.ceil(_SIZE / self.elastic_sigma) + 1)
            gaussians = torch.exp(-(((pixels[:, None] - centres) * _SIZE / 2 / self.elastic_sigma) ** 2) / 2)
            gaussians = F.normalize(gaussians, dim=1)  # heights of variance 1 give each pixel variance 1
            functions = torch.cat((functions, gaussians), dim=1)
        return functions

    def draw(self, count: int, generator: Generator | None = None) -> Tensor:
        """Return the coefficients of random distortions, float ``(count, 2, K, K)``, from a generator on the CPU."""
        draws = torch.empty(6, count).uniform_(-1, 1, generator=generator)
        angle = draws[0] * math.radians(self.rotation)
        scale_x, scale_y = 1 + draws[1:3] * self.scale
        shear = draws[3] * self.shear
        size = self._functions.shape[1]
        coefficients = torch.zeros(count, 2, size, size)
        # [[0, y], [x, 1]], of which c = 0 and c = 1 each take a share: a rotation of a sheared and scaled image.
        (_, by_y), (by_x, constant) = coefficients[:, :, :2, :2].permute(2, 3, 1, 0)
        by_x[0], by_y[0] = angle.cos() * scale_x, angle.cos() * shear - angle.sin() * scale_y
        by_x[1], by_y[1] = angle.sin() * scale_x, angle.sin() * shear + angle.cos() * scale_y
        constant.copy_(draws[4:] * (self.shift * 2 / _SIZE))
        if self.elastic:
            heights = torch.randn(count, 2, size - 2, size - 2, generator=generator)
            coefficients[:, :, 2:, 2:] = heights * (self.elastic * 2 / _SIZE)
        return coefficients

    def distort(self, images: Tensor, coefficients: Tensor) -> Tensor:
        """Return distorted copies of images; pixels from outside an image are black.

        Args:
            images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on any device.
            coefficients: Float ``(N, 2, K, K)``, as ``draw`` returns them.

        Returns:
            Like ``images``.
        """
        functions = self._functions.to(images)
        grid = functions @ (coefficients.to(images) @ functions.T)  # (N, 2, 28, 28)
        return F.grid_sample(images, grid.permute(0, 2, 3, 1), align_corners=False)

    def __call__(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        """Return randomly distorted copies of ``images``."""
        return self.distort(images, self.draw(len(images), generator))
