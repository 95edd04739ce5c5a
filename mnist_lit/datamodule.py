"""The data: the validation split, the batches of each stage, the distortion of training images."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule

from mnist_lit import mnist
from mnist_lit.augment import RandomDistortion
from mnist_lit.batches import TensorBatches
from mnist_lit.errors import check_range

_EVALUATION_BATCH = 1000  # images: larger than in training, which is faster
_SPLIT_SEED = 0  # fixed, so that every run validates on the same images


class MNISTDataModule(LightningDataModule):
    """MNIST (LeCun, Cortes and Burges 1998) from the files that come with this package.

    A batch is ``(images, labels)``: float32 ``(N, 1, 28, 28)`` with pixels in [0, 1], int64 ``(N,)``.

    Args:
        data_dir: Folder for the data, as torchvision's ``root``; created and filled if needed.
        batch_size: Images in a batch, over all processes, at least 1; the last batch of an epoch may have fewer.
            Validation and test have batches of 1,000.
        val_size: Training images held out for validation, 0 to 59999; always the same ones.
        seed: Seed of the order of the training images and of their distortions, 0 to 4294967295; by default the seed of
            ``seed_everything``, or 0 without it.
        augment: Random distortion of the training images: a RandomDistortion, or a dict of its arguments.

    Attributes:
        train_data: After ``setup("fit")``, training images, uint8 ``(N, 28, 28)``, and labels, int64 ``(N,)``.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = "data",
        batch_size: int = 100,
        val_size: int = 5000,
        seed: int | None = None,
        augment: RandomDistortion = RandomDistortion(),
    ) -> None:
        super().__init__()
        check_range("batch_size", batch_size, at_least=1)
        check_range("val_size", val_size, at_least=0, at_most=59_999)
        if seed is None:
            seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # as Lightning seeds its distributed samplers
        check_range("seed", seed, at_least=0, at_most=2**32 - 1)  # SeedSequence splits a larger seed into two numbers
        self.data_dir = Path(data_dir)
        self.batch_size = batch_size
        self.val_size = val_size
        self.seed = seed
        self.augment = RandomDistortion(**augment) if isinstance(augment, Mapping) else augment
        # save_hyperparameters reads the local variables of this call: the seed as resolved above, and the distortion as
        # plain values, which a checkpoint can hold.
        augment = cast(Any, asdict(self.augment))
        self.save_hyperparameters(ignore="data_dir")  # the path differs between machines

    @property
    def raw_dir(self) -> Path:
        """Folder of the files, in torchvision's layout."""
        return self.data_dir / "MNIST" / "raw"

    def prepare_data(self) -> None:
        """Unpack MNIST's files into ``data_dir`` if any is missing or damaged.

        Raises:
            OSError: If ``data_dir`` cannot be written.
        """
        mnist.unpack(self.data_dir)

    def setup(self, stage: str) -> None:
        """Read the images that ``stage`` (``fit``, ``validate``, ``test`` or ``predict``) needs."""
        if stage in ("test", "predict"):
            self._test = mnist.read(self.raw_dir, "t10k")
            return
        images, labels = mnist.read(self.raw_dir, "train")
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(_SPLIT_SEED))
        val, train = order[: self.val_size], order[self.val_size :].sort().values  # training images in file order
        self._val = images[val], labels[val]
        self.train_data = images[train], labels[train]

    def train_dataloader(self) -> TensorBatches:
        """Return the training batches, shuffled and distorted differently in each epoch; this process's share of each.

        With ``overfit_batches`` they are not shuffled, so that every epoch has the same batches.
        """
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        device = self.trainer.strategy.root_device if self.trainer else "cpu"
        return TensorBatches(*self.train_data, self.batch_size, self._share, self.seed, shuffle, self.augment, device)

    def val_dataloader(self) -> TensorBatches:
        """Return the batches of the validation images, in a fixed order; no batches if ``val_size`` is 0."""
        return TensorBatches(*self._val, _EVALUATION_BATCH, self._share)

    def test_dataloader(self) -> TensorBatches:
        """Return the batches of the 10,000 test images, in file order."""
        return TensorBatches(*self._test, _EVALUATION_BATCH, self._share)

    def predict_dataloader(self) -> TensorBatches:
        """Return the batches of the test images, in file order: all to every process, since only the first writes."""
        return TensorBatches(*self._test, self.batch_size)  # a user may limit how many batches are predicted

    @property
    def _share(self) -> slice:
        # Each process takes every world_size-th image of a batch: so a step has the same images as on one process.
        return slice(None) if self.trainer is None else slice(self.trainer.global_rank, None, self.trainer.world_size)
