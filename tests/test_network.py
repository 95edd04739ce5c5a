from typing import get_args

import pytest
import torch

from mnist_lit import MLP
from mnist_lit.network import Activation


def test_the_network_of_the_article_has_109386_parameters() -> None:
    sizes = [tuple(parameter.shape) for parameter in MLP().parameters()]
    assert sizes == [(128, 784), (128,), (64, 128), (64,), (10, 64), (10,)]
    assert sum(parameter.numel() for parameter in MLP().parameters()) == 109_386


def test_without_activation_the_network_is_linear_and_with_relu_it_is_not() -> None:
    a, b = torch.rand(2, 5, 1, 28, 28)
    for network, linear in (MLP(activation="identity"), True), (MLP(activation="relu"), False):
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


def test_a_hidden_layer_without_units_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden_sizes.*\[128, 0\]"):
        MLP((128, 0))


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"activation.*relu.*'swoosh'"):
        MLP(activation="swoosh")  # type: ignore[arg-type]  # for callers who do not use mypy
