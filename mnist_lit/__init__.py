"""Train, test and use a small network on MNIST with PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_lit.datamodule import MNISTDataModule
    from mnist_lit.module import MNISTClassifier
    from mnist_lit.network import MLP
    from mnist_lit.pictures import preprocess, read_digits, read_picture

__all__ = ["MLP", "MNISTClassifier", "MNISTDataModule", "preprocess", "read_digits", "read_picture"]

_MODULES = {"MLP": "network", "MNISTClassifier": "module", "MNISTDataModule": "datamodule"} | dict.fromkeys(
    ("preprocess", "read_digits", "read_picture"), "pictures"
)


def __getattr__(name: str) -> object:
    # Imported at the first use: Lightning takes five seconds, which neither --help nor a picture need wait for.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
