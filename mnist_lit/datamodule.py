"""The data: the validation split, the batches of each stage, the distortion of training images."""

import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from typing_extensions import override

from mnist_lit import mnist
from mnist_lit.augment import RandomDistortion
from mnist_lit.errors import UserError, check_range
from mnist_lit.network import UPRIGHT_SHAPE, Upright

Batch = tuple[Tensor, Tensor]  # images, float32 (N, 1, 28, 28) in [0, 1], and labels, int64 (N,) in 0-9
_BLOCK = 500  # images that are gathered and distorted at once, in less time than those of single batches
EVALUATION_BATCH = 1000  # images of validation and test: larger than in training, which is faster


class MNISTDataModule(LightningDataModule):
    """MNIST (LeCun, Cortes and Burges 1998) from the files that come with this package.

    A batch is ``(images, labels)``: float32 ``(N, 1, 28, 28)`` with pixels in [0, 1], int64 ``(N,)``. In training of a
    model that has a layer ``upright``, images are upright already, ``(N, 1, 784)``.

    Args:
        data_dir: Folder for the data, as torchvision's ``root``; created and filled if needed.
        batch_size: Images in a batch, over all processes, at least 1; the last batch of an epoch may have fewer.
            Validation and test have batches of 1,000.
        val_size: Training images held out for validation, 0 to 59999; always the same ones.
        seed: Seed of the training images' order and distortions, 0 to 2**32 - 1; by default ``seed_everything``'s or 0.
        augment: Random distortion of the training images: a RandomDistortion, or a dict of its arguments.

    Attributes:
        train_data: After ``setup("fit")``, training images, uint8 ``(N, 28, 28)``, and labels, int64 ``(N,)``.

    Raises:
        UserError: If an argument is out of range.
    """

    folder = "MNIST"  # in data_dir, as torchvision names it; a subclass may read another data set of the same format

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = "data",
        batch_size: int = 100,
        val_size: int = 5000,
        seed: int | None = None,
        augment: RandomDistortion = RandomDistortion(),
    ) -> None:
        super().__init__()
        batch_size = check_range("batch_size", batch_size, at_least=1, is_whole=True)
        val_size = check_range("val_size", val_size, at_least=0, at_most=59_999, is_whole=True)
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed  # as Lightning seeds its samplers
        seed = check_range("seed", seed, at_least=0, at_most=2**32 - 1, is_whole=True)  # SeedSequence splits a larger
        self.data_dir = Path(data_dir).expanduser()
        self.batch_size, self.val_size, self.seed = batch_size, val_size, seed
        augment = RandomDistortion(**augment) if isinstance(augment, dict) else augment
        if type(augment) is not RandomDistortion:  # a checkpoint has its numbers alone
            raise UserError(f"augment must be a RandomDistortion or a dict of its arguments, got {augment!r}")
        self.augment = augment
        augment = cast(Any, {name: float(value) for name, value in asdict(augment).items()})  # to save plain values
        self.save_hyperparameters(ignore="data_dir")  # the path differs between machines

    @override
    def prepare_data(self) -> None:
        mnist.unpack(self.data_dir)

    @override
    def setup(self, stage: str) -> None:
        raw = self.data_dir / self.folder / "raw"
        if stage in ("test", "predict"):
            self._test = mnist.read(raw, "t10k")
            return
        images, labels = mnist.read(raw, "train")
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))  # the same in every run
        val, train = order[: self.val_size], order[self.val_size :].sort().values  # training images in file order
        self._val = images[val], labels[val]
        self.train_data = images[train], labels[train]

    def train_dataloader(self) -> "TensorBatches":
        """Return this process's share of the training batches, shuffled and distorted differently in each epoch.

        If the model has a layer ``upright``, it is applied here, once.
        """
        shuffle = not getattr(self.trainer, "overfit_batches", 0)  # so that every epoch has the same batches
        layer = getattr(self.trainer and self.trainer.lightning_module, "upright", None)
        upright = layer if isinstance(layer, Upright) else None
        return self._batches(*self.train_data, self.batch_size, self.seed, shuffle, self.augment, upright)

    def val_dataloader(self) -> "TensorBatches":
        """Return the batches of the validation images, in a fixed order; none if ``val_size`` is 0."""
        return self._batches(*self._val, EVALUATION_BATCH)

    def test_dataloader(self) -> "TensorBatches":
        """Return the batches of the 10,000 test images, in file order."""
        return self._batches(*self._test, EVALUATION_BATCH)

    def predict_dataloader(self) -> "TensorBatches":
        """Return the batches of the test images, in file order: all to every process, since only the first writes."""
        return TensorBatches(*self._test, self.batch_size)  # a user may limit how many batches are predicted

    def _batches(self, images: Tensor, labels: Tensor, batch_size: int, *options: Any) -> "TensorBatches":
        trainer = self.trainer
        device = trainer.strategy.root_device if trainer else "cpu"
        # Each process takes every world_size-th image of a batch: so a step has the same images as on one process.
        share = slice(trainer.global_rank, None, trainer.world_size) if trainer else slice(None)
        return TensorBatches(images.to(device), labels.to(device), batch_size, share, *options)


@dataclass(eq=False)
class TensorBatches:
    """Batches cut from tensors in memory, in the given order or shuffled, distorted or not.

    The order depends only on (seed, epoch) and the distortions only on (seed, epoch, block): a run repeats bit for bit.
    A torch DataLoader would be slower: it collects images one by one.

    Args:
        images: uint8 ``(size, 28, 28)``, on the device where batches are cut.
        labels: int64 ``(size,)``, on the same device.
        batch_size: Images in a batch; the last batch may have fewer.
        share: The part of each batch that this process takes: ``slice(r, None, n)`` for process r of n.
        seed: Seed of the orders and the distortions, 0 to 2**32 - 1.
        shuffle: Whether each epoch has its own order.
        distortion: Random distortion of the images; by default none.
        upright: A network's first layer, applied to all images once, before distortion: batches are ``(N, 1, 784)``.
    """

    images: Tensor
    labels: Tensor
    batch_size: int
    share: slice = field(default_factory=lambda: slice(None))
    seed: int = 0
    shuffle: bool = False
    distortion: RandomDistortion = RandomDistortion()
    upright: Upright | None = None

    def __post_init__(self) -> None:
        if self.upright:  # in uint8 again, which takes a quarter of the memory
            upright, blocks = self.upright, self.images.unsqueeze(1).split(_BLOCK)
            self.images = torch.cat([(upright(block / 255) * 255).round().byte() for block in blocks])[:, 0]
        self.epoch = 0
        # Lightning calls set_epoch of loader.sampler or loader.batch_sampler.sampler before each epoch. With
        # overfit_batches it would replace the first.
        self.batch_sampler = SimpleNamespace(sampler=self)

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def count(self, batch_idx: int) -> int:
        """Return the number of images in a batch, over all processes."""
        return min(self.batch_size, len(self.labels) - batch_idx * self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the distortions of ``epoch``, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        size = len(self.labels)
        if not size:
            return
        order = torch.randperm(size, generator=self._make_generator()) if self.shuffle else torch.arange(size)
        block_size = max(1, _BLOCK // self.batch_size) * self.batch_size
        shape = UPRIGHT_SHAPE if self.upright else (1, 28, 28)
        for block, indices in enumerate(order.to(self.labels.device).split(block_size), start=1):
            # index_select takes a third of the time of images[indices].
            images = self.images.index_select(0, indices).unsqueeze(1).div(255)
            if self.distortion:
                # Whole batches, of which this process takes its share: the same on any number of processes.
                images = self.distortion(images, self._make_generator(block))
            images, labels = images.view(-1, *shape), self.labels.index_select(0, indices)
            for batch in zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True):
                yield batch[0][self.share], batch[1][self.share]

    def _make_generator(self, *block: int) -> torch.Generator:
        # Not seed + epoch: epoch 0 of seed 1 would have the order of epoch 1 of seed 0.
        (seed,) = np.random.SeedSequence((self.seed, self.epoch, *block)).generate_state(1)
        return torch.Generator().manual_seed(int(seed))
