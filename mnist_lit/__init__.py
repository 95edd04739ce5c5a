"""Train, test and use a small network on MNIST with PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_lit.__main__ import main
    from mnist_lit.augment import RandomDistortion
    from mnist_lit.datamodule import MNISTDataModule
    from mnist_lit.errors import RunInterruptedError
    from mnist_lit.module import Classifier, MNISTClassifier
    from mnist_lit.network import MLP
    from mnist_lit.pictures import preprocess, read_digits, read_picture
    from mnist_lit.run.checkpoint import RunCheckpoint
    from mnist_lit.run.execution import StepsPerExecution
    from mnist_lit.run.progress import EpochLines
    from mnist_lit.run.trainer import make_trainer

__all__ = [
    "MLP",
    "Classifier",
    "EpochLines",
    "MNISTClassifier",
    "MNISTDataModule",
    "RandomDistortion",
    "RunCheckpoint",
    "RunInterruptedError",
    "StepsPerExecution",
    "main",
    "make_trainer",
    "preprocess",
    "read_digits",
    "read_picture",
]

_MODULES = {
    "Classifier": "module",
    "EpochLines": "run.progress",
    "MLP": "network",
    "MNISTClassifier": "module",
    "MNISTDataModule": "datamodule",
    "RandomDistortion": "augment",
    "RunCheckpoint": "run.checkpoint",
    "RunInterruptedError": "errors",
    "StepsPerExecution": "run.execution",
    "main": "__main__",
    "make_trainer": "run.trainer",
    "preprocess": "pictures",
    "read_digits": "pictures",
    "read_picture": "pictures",
}


def __getattr__(name: str) -> object:
    # Imported at the first use: Lightning takes five seconds, which neither --help nor a picture need wait for.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
