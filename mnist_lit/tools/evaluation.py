"""A network's answers for the test images."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mnist_lit.datamodule import MNISTDataModule


class Evaluation(NamedTuple):
    """A network and its answers for the 10,000 test images."""

    network: nn.Module
    """A copy on the CPU, in single precision and evaluation mode."""
    images: Tensor
    """Float32 ``(10000, 1, 28, 28)``."""
    labels: Tensor
    """int64 ``(10000,)``."""
    logits: Tensor
    """Float32 ``(10000, 10)``."""

    @property
    def is_wrong(self) -> Tensor:
        """Which images are read wrong, bool ``(10000,)``."""
        return self.logits.argmax(dim=1) != self.labels

    @property
    def accuracy(self) -> float:
        """Share of the images that are read right, in [0, 1]."""
        return 1 - float(self.is_wrong.double().mean())


def evaluate(network: nn.Module, datamodule: MNISTDataModule) -> Evaluation:
    """Return the answers of ``network``, which is not changed, for the test images of ``datamodule``."""
    datamodule.prepare_data()
    datamodule.setup("test")
    images, labels = map(torch.cat, zip(*datamodule.test_dataloader(), strict=True))
    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    return Evaluation(network, images, labels, network(images))
