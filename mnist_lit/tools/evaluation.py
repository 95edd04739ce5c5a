"""A network's answers for the test images, and the options that it was trained with."""

import copy
from collections.abc import Mapping
from dataclasses import is_dataclass
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mnist_lit.datamodule import MNISTDataModule


class Evaluation(NamedTuple):
    """A network, as a copy on the CPU in single precision, and its answers for the 10,000 test images."""

    network: nn.Module
    images: Tensor  # float32 (10000, 1, 28, 28) in [0, 1]
    labels: Tensor  # int64 (10000,)
    logits: Tensor  # float32 (10000, 10)

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified correctly, in [0, 1]."""
        return float((self.logits.argmax(dim=1) == self.labels).double().mean())


def evaluate(network: nn.Module, datamodule: MNISTDataModule) -> Evaluation:
    """Return the answers of ``network``, which is not changed, for the test images of ``datamodule``."""
    datamodule.prepare_data()
    datamodule.setup("test")
    images, labels = map(torch.cat, zip(*datamodule.test_dataloader(), strict=True))
    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    return Evaluation(network, images, labels, network(images))


def changed_options(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a class that differ from its defaults; a nested option's name is ``augment.rotation``."""
    changed: dict[str, Any] = {}
    parameters = {name: each for base in reversed(kind.__mro__) for name, each in signature(base).parameters.items()}
    for name, value in options.items():
        default = parameters[name].default if name in parameters else None
        if is_dataclass(default) and isinstance(value, Mapping):
            nested = changed_options(type(default), value)
            changed |= {f"{name}.{each}": nested[each] for each in nested}
        elif str(value) != str(list(default) if isinstance(default, tuple) else default):  # == of a tensor is a tensor
            changed[name] = value
    return changed
