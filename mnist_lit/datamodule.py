"""The data: MNIST's files, the validation split, the batches of each stage."""

import os
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import check_integrity

from mnist_lit.augment import RandomDistortion
from mnist_lit.batches import ShuffledBatches, TensorBatches, make_generator
from mnist_lit.errors import UserError
from mnist_lit.network import Batch

_TRAIN_SIZE = 60_000
_EVALUATION_BATCH = 1000  # images: larger batches than those of the training take less time
_DRAWN = 2000  # images whose distortions are drawn at once
_SPLIT_SEED = 0  # of the validation split: the same images in every run, whatever the run's seed

# MD5 of each unpacked file: torchvision checks the packed ones alone.
_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class MNISTDataModule(LightningDataModule):
    """MNIST (LeCun, Cortes and Burges 1998) from the files that come with this package.

    A batch is ``(images, labels)``: float32 ``(N, 1, 28, 28)`` with pixels in [0, 1], int64 ``(N,)``.

    Args:
        data_dir: Folder for the data, as torchvision's ``root``; made and filled where needed.
        batch_size: Images in a batch, over all processes, at least 1; the last batch of an epoch may have fewer.
            Validation and test have batches of 1,000.
        val_size: Training images held out for validation, 0 to 59999; always the same ones.
        seed: Seed of the order of the training images and of their distortions, 0 to 4294967295; by default that of
            ``seed_everything``, else 0.
        augment_rotation: Rotate each training image by up to so many degrees either way, 0 to 180.
        augment_shift: Shift each training image by up to so many pixels along each axis, 0 to 14.
        augment_scale: Divide width and height of each training image by random numbers from 1 - this to 1 + this, 0 to
            less than 1.
        augment_shear: Slant each training image by up to this tangent, 0 to 1.
        augment_elastic: Bend each training image by displacements of this standard deviation in pixels, 0 to 14.
        augment_elastic_sigma: Smooth the displacements with a Gaussian of this standard deviation in pixels, 1 to 28.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = "data",
        batch_size: int = 100,
        val_size: int = 5000,
        seed: int | None = None,
        augment_rotation: float = 0.0,
        augment_shift: float = 0.0,
        augment_scale: float = 0.0,
        augment_shear: float = 0.0,
        augment_elastic: float = 0.0,
        augment_elastic_sigma: float = 4.0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= val_size < _TRAIN_SIZE:
            raise UserError(f"val_size must be from 0 to {_TRAIN_SIZE - 1}, got {val_size}")
        if seed is None:
            seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # as Lightning seeds its distributed samplers
        if not 0 <= seed < 2**32:  # SeedSequence would take a larger one as two numbers: another seed and epoch
            raise UserError(f"seed must be from 0 to {2**32 - 1}, got {seed}")
        self.data_dir = Path(data_dir)
        self.batch_size = batch_size
        self.val_size = val_size
        self.seed = seed
        strengths = {
            "rotation": augment_rotation,
            "shift": augment_shift,
            "scale": augment_scale,
            "shear": augment_shear,
            "elastic": augment_elastic,
        }
        distortion = RandomDistortion(**strengths, elastic_sigma=augment_elastic_sigma)
        self.distortion = distortion if any(strengths.values()) else None
        self._drawn = torch.empty(0)  # distortions
        self._drawn_for = 0, 0  # of which epoch, and part of it
        self._train_batches: TensorBatches | None = None
        self._resumed_state = {"batches": 0}
        self.save_hyperparameters(ignore="data_dir")  # which differs between machines

    @property
    def raw_dir(self) -> Path:
        """Folder of the files, in torchvision's layout."""
        return self.data_dir / "MNIST" / "raw"

    def prepare_data(self) -> None:
        """Lay MNIST's files into ``data_dir`` where one is missing or altered.

        Raises:
            OSError: If ``data_dir`` cannot be written.
        """
        if all(check_integrity(self.raw_dir / name, md5) for name, md5 in _MD5.items()):
            return
        self.raw_dir.mkdir(parents=True, exist_ok=True)
        # Unpacked elsewhere and moved in whole, so that a second process that starts now never reads half a file.
        with TemporaryDirectory(dir=self.data_dir) as root:
            unpacked = Path(root, "MNIST", "raw")
            unpacked.mkdir(parents=True)
            for name, _ in MNIST.resources:
                (unpacked / name).write_bytes((files(__package__) / "mnist" / name).read_bytes())
            MNIST(root, download=True)  # verifies and unpacks them; since they are there, it downloads nothing
            for name in _MD5:
                (unpacked / name).replace(self.raw_dir / name)

    def setup(self, stage: str) -> None:
        """Read the images that ``stage`` (``fit``, ``validate``, ``test`` or ``predict``) needs."""
        if stage in ("test", "predict"):
            self._test = self._read("t10k")
            return
        images, labels = self._read("train")
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(_SPLIT_SEED))
        val, train = order[: self.val_size], order[self.val_size :].sort().values
        self._val = images[val], labels[val]
        self._train = images[train], labels[train]

    def _read(self, prefix: str) -> tuple[Tensor, Tensor]:
        # Not MNIST(...).data, which prefers the unverified files of torchvision before 0.9 where it finds them.
        images = read_image_file(self.raw_dir / f"{prefix}-images-idx3-ubyte")
        return images, read_label_file(self.raw_dir / f"{prefix}-labels-idx1-ubyte")

    def train_dataloader(self) -> TensorBatches:
        """Return the training batches, shuffled anew each epoch; of each batch, this process's share.

        With ``overfit_batches`` they are not shuffled, so that every epoch has the same ones.
        """
        if getattr(self.trainer, "overfit_batches", 0):
            self._train_batches = TensorBatches(*self._train, self.batch_size, self._share)
        else:
            self._train_batches = ShuffledBatches(*self._train, self.batch_size, self._share, seed=self.seed)
        self._train_batches.load_state_dict(self._resumed_state)
        self._resumed_state = {"batches": 0}
        return self._train_batches

    def state_dict(self) -> dict[str, int]:
        """Return where in the epoch the training is."""
        # Lightning saves the loader's state, too, but does not always restore it: to know the one-cycle's number of
        # steps it makes the loader before it restores loaders. The datamodule's state is restored before that.
        if self.trainer is None or self._train_batches is None:
            return {}
        epochs = self.trainer.fit_loop.epoch_progress.current.state_dict()
        within_epoch = epochs["processed"] < epochs["ready"] and not self.trainer.is_last_batch
        return self._train_batches.state_dict() if within_epoch else {"batches": 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin the next training there: ``train_dataloader`` is called later."""
        self._resumed_state = state_dict

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Distort the images of a training batch, in a way that depends on (seed, epoch, batch) alone."""
        if self.distortion is None or self.trainer is None or not self.trainer.training:
            return batch
        images, labels = batch
        number = self.trainer.fit_loop.batch_idx + 1  # of this batch, from 0: Lightning counts it after this hook
        # Drawn for many batches at once, in a quarter of the time.
        batches = max(1, _DRAWN // self.batch_size)
        block, first = number // batches, (number % batches) * self.batch_size
        key = self.trainer.current_epoch, block + 1  # (seed, epoch, 0) would be (seed, epoch), which makes the order
        if key != self._drawn_for:
            count = min(batches * self.batch_size, len(self._train[1]) - block * batches * self.batch_size)
            self._drawn, self._drawn_for = self.distortion.draw(count, make_generator(self.seed, *key)), key
        drawn = self._drawn[first : first + self.batch_size][self._share]
        return self.distortion.distort(images, drawn), labels

    @property
    def train_data(self) -> tuple[Tensor, Tensor]:
        """The training images, uint8 ``(N, 28, 28)``, and their labels, int64 ``(N,)``, in their order."""
        return self._train

    def val_dataloader(self) -> TensorBatches:
        """Return the batches of the validation images, in a fixed order; none if ``val_size`` is 0."""
        return TensorBatches(*self._val, _EVALUATION_BATCH, self._share)

    def test_dataloader(self) -> TensorBatches:
        """Return the batches of the 10,000 test images, in their order."""
        return TensorBatches(*self._test, _EVALUATION_BATCH, self._share)

    def predict_dataloader(self) -> TensorBatches:
        """Return the batches of the test images, in their order. Not shared: the first process writes them all."""
        return TensorBatches(*self._test, self.batch_size)

    @property
    def _share(self) -> slice:
        # Each process takes every world_size-th image of a batch: together they make the step of a single process.
        return slice(None) if self.trainer is None else slice(self.trainer.global_rank, None, self.trainer.world_size)
