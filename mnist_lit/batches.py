"""Batches cut from tensors in memory."""

import math
from collections.abc import Iterator
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from mnist_lit.augment import RandomDistortion
from mnist_lit.network import Batch

_DRAWN = 2000  # images whose distortions are drawn at once, in a quarter of the time


def make_generator(*key: int) -> torch.Generator:
    """Return a generator seeded from ``key``, numbers from 0 to 2**32 - 1.

    Zeros at the end of the key make no difference: (1, 2) and (1, 2, 0) give the same random numbers.
    """
    # seed + epoch would not do: seed 1 would repeat the orders of seed 0, one epoch later.
    (seed,) = np.random.SeedSequence(key).generate_state(1)
    return torch.Generator().manual_seed(int(seed))


@lru_cache(maxsize=1)
def _draw(distortion: RandomDistortion, count: int, *key: int) -> Tensor:
    return distortion.draw(count, make_generator(*key))


class TensorBatches:
    """Batches cut from tensors in memory, in their order or shuffled, as they are or distorted.

    The order depends only on (seed, epoch) and the distortions only on (seed, epoch, batch): a run repeats bit for bit,
    and can go on from any batch. Not a torch DataLoader, which collects images one by one.

    Args:
        images: uint8 ``(size, 28, 28)``.
        labels: int64 ``(size,)``.
        batch_size: Images in a batch; the last batch may have fewer.
        share: Of each batch: ``slice(r, None, n)`` for process r of n.
        seed: Of the orders and the distortions, 0 to 2**32 - 1.
        shuffle: Whether each epoch has an order of its own.
        distortion: Of the images; with zero strengths they stay as they are.
        device: Where images are distorted.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        share: slice = slice(None),
        seed: int = 0,
        shuffle: bool = False,
        distortion: RandomDistortion | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.images = images.unsqueeze(1)
        self.labels = labels
        self.batch_size = batch_size
        self.share = share
        self.seed = seed
        self.shuffle = shuffle
        self.distortion = distortion
        self.device = device
        self.epoch = 0
        # The Trainer calls its set_epoch before each epoch. A loader.sampler it would replace with overfit_batches.
        self.batch_sampler = SimpleNamespace(sampler=self)

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the distortions of ``epoch``, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        if self.shuffle:
            order = torch.randperm(len(self.labels), generator=make_generator(self.seed, self.epoch))
        else:
            order = torch.arange(len(self.labels))
        for number, batch in enumerate(order.split(self.batch_size)):
            indices = batch[self.share]
            # index_select takes a third of the time of images[indices].
            images = self.images.index_select(0, indices).div(255)
            if self.distortion:
                images = self.distortion.distort(images.to(self.device), self._drawn(self.distortion, number))
            yield images, self.labels.index_select(0, indices)

    def _drawn(self, distortion: RandomDistortion, number: int) -> Tensor:
        per_block = max(1, _DRAWN // self.batch_size)  # batches
        block, place = divmod(number, per_block)
        count = min(per_block * self.batch_size, len(self.labels) - block * per_block * self.batch_size)
        # The key of a block begins at 1: (seed, epoch, 0) would be (seed, epoch), which makes the order.
        drawn = _draw(distortion, count, self.seed, self.epoch, block + 1)
        return drawn[place * self.batch_size : (place + 1) * self.batch_size][self.share]
