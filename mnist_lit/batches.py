"""Batches cut from tensors in memory."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mnist_lit.network import Batch


def make_generator(*key: int) -> torch.Generator:
    """Return a generator seeded from ``key``, numbers from 0 to 2**32 - 1.

    Zeros at the end of the key make no difference: (1, 2) and (1, 2, 0) give the same random numbers.
    """
    # seed + epoch would not do: seed 1 would repeat the orders of seed 0, one epoch later.
    (seed,) = np.random.SeedSequence(key).generate_state(1)
    return torch.Generator().manual_seed(int(seed))


class TensorBatches:
    """Batches cut from tensors in memory, in their order.

    Not a torch DataLoader, which collects images one by one, and cannot continue within an epoch.

    Args:
        images: uint8 ``(size, 28, 28)``.
        labels: int64 ``(size,)``.
        batch_size: Images in a batch; the last batch may have fewer.
        share: Which images of each batch to give: ``slice(r, None, n)`` to process r of n.
    """

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, share: slice = slice(None)) -> None:
        self.images = images.unsqueeze(1)
        self.labels = labels
        self.batch_size = batch_size
        self.share = share
        self._first = 0  # batch to start the next epoch with
        self._taken = 0  # batches taken in this epoch

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = self._order()
        first, self._first = self._first, 0
        for batch in range(first, len(self)):
            self._taken = batch + 1
            indices = order[batch * self.batch_size : (batch + 1) * self.batch_size][self.share]
            # index_select takes a third of the time of images[indices].
            yield self.images.index_select(0, indices).div(255), self.labels.index_select(0, indices)

    def _order(self) -> Tensor:
        return torch.arange(len(self.labels))

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the epoch were given; Lightning takes none in advance."""
        return {"batches": self._taken}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin the next epoch after so many batches."""
        self._first = self._taken = state_dict["batches"]


class ShuffledBatches(TensorBatches):
    """Batches in an order that depends on (seed, epoch) alone, so that a run repeats bit for bit.

    Args:
        images: uint8 ``(size, 28, 28)``.
        labels: int64 ``(size,)``.
        batch_size: Images in a batch; the last batch may have fewer.
        share: Which images of each batch to give, as for ``TensorBatches``.
        seed: Seed of the orders, 0 to 2**32 - 1.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, batch_size: int, share: slice = slice(None), *, seed: int
    ) -> None:
        super().__init__(images, labels, batch_size, share)
        self.seed = seed
        self.epoch = 0

    @property
    def sampler(self) -> "ShuffledBatches":
        """This loader: the Trainer calls ``loader.sampler.set_epoch`` before each epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of ``epoch``, counted from 0."""
        self.epoch = epoch

    def _order(self) -> Tensor:
        return torch.randperm(len(self.labels), generator=make_generator(self.seed, self.epoch))
