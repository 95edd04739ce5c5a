"""Train, test and use a small network on MNIST with PyTorch Lightning."""

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.module import MNISTClassifier
from mnist_lit.network import MLP

__all__ = ["MLP", "MNISTClassifier", "MNISTDataModule"]
