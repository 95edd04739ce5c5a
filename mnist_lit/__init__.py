"""Train, test and use a small network on MNIST with PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_lit.datamodule import MNISTDataModule
    from mnist_lit.module import MNISTClassifier
    from mnist_lit.network import MLP

__all__ = ["MLP", "MNISTClassifier", "MNISTDataModule"]


def __getattr__(name: str) -> object:
    # Imported when asked for: Lightning takes five seconds, which --help need not wait for.
    modules = {"MLP": "network", "MNISTClassifier": "module", "MNISTDataModule": "datamodule"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{modules[name]}"), name)
