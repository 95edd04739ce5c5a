"""Batches cut from tensors in memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from mnist_lit.augment import RandomDistortion

Batch = tuple[Tensor, Tensor]
"""Images, float32 ``(N, 1, 28, 28)`` in [0, 1], and labels, int64 ``(N,)`` in 0-9."""

_BLOCK = 500  # images that are gathered and distorted at once, in less time than those of single batches


@dataclass(eq=False)
class TensorBatches:
    """Batches cut from tensors in memory, in the given order or shuffled, distorted or not.

    The order depends only on (seed, epoch) and the distortions only on (seed, epoch, block): a run repeats bit for bit,
    and can continue from any batch. A torch DataLoader would be slower: it collects images one by one.

    Args:
        images: uint8 ``(size, 28, 28)``.
        labels: int64 ``(size,)``.
        batch_size: Images in a batch; the last batch may have fewer.
        share: The part of each batch that this process takes: ``slice(r, None, n)`` for process r of n.
        seed: Seed of the orders and the distortions, 0 to 2**32 - 1.
        shuffle: Whether each epoch has its own order.
        distortion: Random distortion of the images; by default none.
        device: Device on which images are distorted.
    """

    images: Tensor
    labels: Tensor
    batch_size: int
    share: slice = field(default_factory=lambda: slice(None))
    seed: int = 0
    shuffle: bool = False
    distortion: RandomDistortion = RandomDistortion()
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        self.epoch = 0
        # Lightning calls set_epoch of loader.sampler or loader.batch_sampler.sampler before each epoch. With
        # overfit_batches it would replace the first.
        self.batch_sampler = SimpleNamespace(sampler=self)

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the distortions of ``epoch``, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        if self.shuffle:
            order = torch.randperm(len(self.labels), generator=self._make_generator())
        else:
            order = torch.arange(len(self.labels))
        block_size = max(1, _BLOCK // self.batch_size) * self.batch_size
        for block, indices in enumerate(order.split(block_size), start=1):
            # index_select takes a third of the time of images[indices].
            images = self.images.index_select(0, indices).unsqueeze(1).div(255)
            if self.distortion:
                # Whole batches, of which this process takes its share: the same on any number of processes.
                images = self.distortion(images.to(self.device), self._make_generator(block))
            labels = self.labels.index_select(0, indices)
            for batch in zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True):
                yield batch[0][self.share], batch[1][self.share]

    def _make_generator(self, *block: int) -> torch.Generator:
        # Not seed + epoch: epoch 0 of seed 1 would have the order of epoch 1 of seed 0.
        (seed,) = np.random.SeedSequence((self.seed, self.epoch, *block)).generate_state(1)
        return torch.Generator().manual_seed(int(seed))
