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
        # Plain tensors, not buffers: a datamodule does not move its modules to a device.
        # grid_sample's coordinates: those of the pixels' centres in an image that reaches from -1 to 1.
        pixels = (torch.arange(_SIZE) + 0.5) * 2 / _SIZE - 1
        y, x = torch.meshgrid(pixels, pixels, indexing="ij")
        self._coordinates = torch.stack((x, y, torch.ones_like(x))).flatten(1)
        # Elastic displacements: random heights on a coarse grid, interpolated with Gaussians. As smooth as one random
        # value per pixel blurred with a Gaussian, with a tenth of the random numbers and a fifth of the time.
        centres = torch.linspace(-1, 1, math.ceil(_SIZE / elastic_sigma) + 1)
        gaussians = torch.exp(-(((pixels[:, None] - centres) * _SIZE / 2 / elastic_sigma) ** 2) / 2)
        self._node_weights = F.normalize(gaussians, dim=1)  # heights of variance 1 give each pixel variance 1

    def forward(
        self,
        images: Tensor,
        generator: Generator | None = None,
        batch_size: int | None = None,
        share: slice = slice(None),
    ) -> Tensor:
        """Return distorted copies of images. Pixels from outside an image are black.

        Random numbers are drawn for the whole batch, so that the result does not depend on the number of processes.

        Args:
            images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1], on any device.
            generator: Of the random numbers, on the CPU; by default torch's global one.
            batch_size: Size of the whole batch, over all processes; by default N.
            share: Which images of the whole batch these are.

        Returns:
            Like ``images``.
        """
        batch_size = batch_size or len(images)
        draws = torch.empty(6, batch_size).uniform_(-1, 1, generator=generator)
        angle, scale_x, scale_y, shear, *shift = draws[:, share]
        cos, sin = (angle * math.radians(self.rotation)).cos(), (angle * math.radians(self.rotation)).sin()
        scale_x, scale_y, shear = 1 + scale_x * self.scale, 1 + scale_y * self.scale, shear * self.shear
        shift_x, shift_y = (pixels * self.shift * 2 / _SIZE for pixels in shift)
        # Where in the image each pixel of the distorted one comes from: a rotation of a sheared and scaled grid.
        # affine_grid would multiply many small matrices, in eight times the time of this one product.
        row_x = cos * scale_x, cos * shear - sin * scale_y, shift_x
        row_y = sin * scale_x, sin * shear + cos * scale_y, shift_y
        affine = torch.stack((*row_x, *row_y), dim=1)
        grid = affine.to(images).view(-1, 3) @ self._coordinates.to(images)
        grid = grid.view(-1, 2, _SIZE, _SIZE)
        if self.elastic:
            weights = self._node_weights.to(images)
            nodes = weights.shape[1]
            heights = torch.randn(batch_size, 2, nodes, nodes, generator=generator)[share]
            grid += weights @ (heights * (self.elastic * 2 / _SIZE)).to(images) @ weights.T
        return F.grid_sample(images, grid.permute(0, 2, 3, 1), align_corners=False)
