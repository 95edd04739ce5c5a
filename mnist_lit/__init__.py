"""Train, test and use a small network on MNIST with PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_lit.__main__ import main as main
    from mnist_lit.augment import RandomDistortion as RandomDistortion
    from mnist_lit.datamodule import MNISTDataModule as MNISTDataModule
    from mnist_lit.errors import RunInterruptedError as RunInterruptedError
    from mnist_lit.module import Classifier as Classifier
    from mnist_lit.module import MNISTClassifier as MNISTClassifier
    from mnist_lit.network import MLP as MLP
    from mnist_lit.pictures import preprocess as preprocess
    from mnist_lit.pictures import read_digits as read_digits
    from mnist_lit.pictures import read_picture as read_picture
    from mnist_lit.run.checkpoint import RunCheckpoint as RunCheckpoint
    from mnist_lit.run.execution import StepsPerExecution as StepsPerExecution
    from mnist_lit.run.progress import EpochLines as EpochLines
    from mnist_lit.run.trainer import make_trainer as make_trainer

__version__ = "0.1.0"

_MODULES = {
    "__main__": ["main"],
    "augment": ["RandomDistortion"],
    "datamodule": ["MNISTDataModule"],
    "errors": ["RunInterruptedError"],
    "module": ["Classifier", "MNISTClassifier"],
    "network": ["MLP"],
    "pictures": ["preprocess", "read_digits", "read_picture"],
    "run.checkpoint": ["RunCheckpoint"],
    "run.execution": ["StepsPerExecution"],
    "run.progress": ["EpochLines"],
    "run.trainer": ["make_trainer"],
}
__all__ = [name for names in _MODULES.values() for name in names]


def __getattr__(name: str) -> object:
    # Imported at the first use: Lightning takes five seconds, which neither --help nor a picture need wait for.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]  # for completion
