from typing import get_args

import pytest
import torch
from conftest import Images

from mnist_lit import MLP
from mnist_lit.network import Activation, Upright


def test_the_network_of_the_article_has_109386_parameters() -> None:
    sizes = [tuple(parameter.shape) for parameter in MLP().parameters()]
    assert sizes == [(128, 784), (128,), (64, 128), (64,), (10, 64), (10,)]
    assert sum(parameter.numel() for parameter in MLP().parameters()) == 109_386


def test_without_activation_the_network_is_linear_and_with_relu_it_is_not() -> None:
    a, b = torch.rand(2, 5, 1, 28, 28)
    for network, linear in (MLP(activation="identity", upright=False), True), (MLP(upright=False), False):
        assert torch.allclose(network(a) + network(b), network(a + b) + network(0 * a), atol=1e-5) is linear


@pytest.mark.parametrize("activation", sorted(set(get_args(Activation)) - {"relu"}))
def test_every_activation_changes_the_output_of_the_same_weights(activation: Activation) -> None:
    relu = MLP()
    other = MLP(activation=activation)
    other.load_state_dict(relu.state_dict())
    images = torch.rand(5, 1, 28, 28)
    assert not torch.allclose(relu(images), other(images))


def test_hidden_sizes_set_number_and_width_of_the_hidden_layers() -> None:
    assert [tuple(p.shape) for p in MLP((7,)).parameters()] == [(7, 784), (7,), (10, 7), (10,)]
    assert [tuple(p.shape) for p in MLP(()).parameters()] == [(10, 784), (10,)]


def moments(images: torch.Tensor) -> torch.Tensor:
    """Return the ink's standard deviations across and down, in half images, and its slant, ``(N, 3)``."""
    at = (torch.arange(28) + 0.5) / 14 - 1
    ink = images[:, 0] / images.sum((1, 2, 3))[:, None, None]
    x, y = ink.sum(1) @ at, ink.sum(2) @ at
    across, down = at - x[:, None], at - y[:, None]
    variances = (ink.sum(1) * across**2).sum(1), (ink.sum(2) * down**2).sum(1)
    covariance = torch.einsum("nyx,ny,nx->n", ink, down, across)
    return torch.stack((variances[0].sqrt(), variances[1].sqrt(), covariance / variances[1]), dim=1)


def test_upright_digits_have_no_slant_and_about_the_same_size(test_images: Images) -> None:
    images, labels = test_images
    images = images[labels != 1]  # which would become too wide
    before, after = moments(images), moments(Upright()(images))
    assert after[:, 2].abs().mean() < 0.02 < before[:, 2].abs().mean() / 10
    assert (after[:, :2].std(dim=0) < before[:, :2].std(dim=0) / 3).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_odd_images_can_be_made_upright(dtype: torch.dtype) -> None:
    images = torch.zeros(4, 1, 28, 28, dtype=dtype)
    images[1, 0, 3, 5] = 1  # a single pixel
    images[2, 0, :, 9] = 1  # a thin line
    images[3] = 1  # no paper
    upright = Upright()(images)
    assert upright.dtype == dtype
    assert torch.equal(upright[[0, 3]], images[[0, 3]])
    assert upright.isfinite().all()
    assert (upright.sum((1, 2, 3))[1:3] > 0.5).all()
    assert Upright()(images[:0]).shape == (0, 1, 28, 28)
    torch.testing.assert_close(Upright()(2 * images - 1), 2 * upright - 1, rtol=0, atol=0.01)  # normalised by a user
    torch.testing.assert_close(Upright()(images[1:2]), upright[1:2])  # an image alone is treated as in a batch
