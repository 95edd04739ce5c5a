"""The network in JAX, for the programs that compare with it."""

from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

SIZES = (784, 128, 64, 10)


def init(random: np.random.Generator) -> Any:
    """Return weights and biases of each layer, drawn as torch draws them."""

    def draw(inputs: int, *shape: int) -> Any:
        return jnp.asarray(random.uniform(-1, 1, shape) / inputs**0.5, jnp.float32)

    return [(draw(a, a, b), draw(a, b)) for a, b in pairwise(SIZES)]


def logits(parameters: Any, images: Any, relu: bool) -> Any:
    """Return the logits of ``images``, float ``(N, 784)``."""
    *hidden, (last_weight, last_bias) = parameters
    for weight, bias in hidden:
        images = images @ weight + bias
        if relu:
            images = jax.nn.relu(images)
    return images @ last_weight + last_bias


def loss(parameters: Any, images: Any, labels: Any, relu: bool) -> Any:
    """Return the mean cross-entropy."""
    return -jax.nn.log_softmax(logits(parameters, images, relu))[jnp.arange(len(labels)), labels].mean()
