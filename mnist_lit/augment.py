"""Distorted copies of training images: each image moved and bent in its own way, a whole batch at once."""

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from mnist_lit.errors import UserError

_SIZE = 28  # pixels of an image along each side


class RandomDistortion(nn.Module):
    """Rotates, shifts, scales, shears and bends each image by amounts of its own.

    After Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document
    analysis" (2003): affine distortions, and elastic ones, displacements of each pixel that are smooth random fields.

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

    def __init__(
        self,
        rotation: float = 0.0,
        shift: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        elastic: float = 0.0,
        elastic_sigma: float = 4.0,
    ) -> None:
        super().__init__()
        # These conditions refuse NaN, too.
        if not 0 <= rotation <= 180:
            raise UserError(f"rotation must be from 0 to 180 degrees, got {rotation}")
        if not 0 <= shift <= _SIZE / 2:
            raise UserError(f"shift must be from 0 to {_SIZE // 2} pixels, got {shift}")
        if not 0 <= scale < 1:
            raise UserError(f"scale must be at least 0 and below 1, got {scale}")
        if not 0 <= shear <= 1:
            raise UserError(f"shear must be from 0 to 1, got {shear}")
        if not 0 <= elastic <= _SIZE / 2:
            raise UserError(f"elastic must be from 0 to {_SIZE // 2} pixels, got {elastic}")
        if not 1 <= elastic_sigma <= _SIZE:
            raise UserError(f"elastic_sigma must be from 1 to {_SIZE} pixels, got {elastic_sigma}")
        self.rotation = rotation
        self.shift = shift
        self.scale = scale
        self.shear = shear
        self.elastic = elastic
        # Where in the image a pixel (x, y) of the distorted one comes from: each coordinate is a sum of products of a
        # function of x and one of y. These are x, y and 1 for a rotation, a scale, a shear and a shift. For elastic
        # displacements they are Gaussians, with random heights on a coarse grid: as smooth as one random value per
        # pixel blurred with a Gaussian, with a tenth of the random numbers. So two small products make the whole grid.
        # Coordinates are grid_sample's: those of the pixels' centres in an image that reaches from -1 to 1.
        pixels = (torch.arange(_SIZE) + 0.5) * 2 / _SIZE - 1
        functions = torch.stack((pixels, torch.ones_like(pixels)), dim=1)
        if elastic:
            centres = torch.linspace(-1, 1, math.ceil(_SIZE / elastic_sigma) + 1)
            gaussians = torch.exp(-(((pixels[:, None] - centres) * _SIZE / 2 / elastic_sigma) ** 2) / 2)
            gaussians = F.normalize(gaussians, dim=1)  # heights of variance 1 give each pixel variance 1
            functions = torch.cat((functions, gaussians), dim=1)
        self._functions = functions  # (28, K); not a buffer: a datamodule does not move its modules to a device

    def draw(self, count: int, generator: Generator | None = None) -> Tensor:
        """Return ``count`` random distortions: float ``(count, 2, K, K)``, the coefficients of the products.

        Args:
            count: How many.
            generator: Of the random numbers, on the CPU; by default torch's global one.
        """
        draws = torch.empty(6, count).uniform_(-1, 1, generator=generator)
        angle = draws[0] * math.radians(self.rotation)
        scale_x, scale_y = 1 + draws[1:3] * self.scale
        shear = draws[3] * self.shear
        size = self._functions.shape[1]
        coefficients = torch.zeros(count, 2, size, size)
        # A rotation of a sheared and scaled image. The functions of each axis begin with the coordinate and 1.
        (_, by_y), (by_x, constant) = coefficients[:, :, :2, :2].permute(2, 3, 1, 0)
        by_x[0], by_y[0] = angle.cos() * scale_x, angle.cos() * shear - angle.sin() * scale_y
        by_x[1], by_y[1] = angle.sin() * scale_x, angle.sin() * shear + angle.cos() * scale_y
        constant.copy_(draws[4:] * (self.shift * 2 / _SIZE))
        if self.elastic:
            heights = torch.randn(count, 2, size - 2, size - 2, generator=generator)
            coefficients[:, :, 2:, 2:] = heights * (self.elastic * 2 / _SIZE)
        return coefficients

    def distort(self, images: Tensor, coefficients: Tensor) -> Tensor:
        """Return copies of images, each distorted as ``draw`` has it. Pixels from outside an image are black.

        Args:
            images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on any device.
            coefficients: Float ``(N, 2, K, K)``.

        Returns:
            Like ``images``.
        """
        functions = self._functions.to(images)
        grid = functions @ (coefficients.to(images) @ functions.T)  # (N, 2, 28, 28)
        return F.grid_sample(images, grid.permute(0, 2, 3, 1), align_corners=False)

    def forward(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        """Return randomly distorted copies of ``images``."""
        return self.distort(images, self.draw(len(images), generator))
