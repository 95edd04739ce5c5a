"""Unpack and read MNIST's files (LeCun, Cortes and Burges 1998), which come with the package."""

import gzip
import zlib
from importlib.resources import files
from pathlib import Path

from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from mnist_lit.files import replacing


def unpack(data_dir: Path) -> None:
    """Unpack those of MNIST's files that are missing or damaged in ``data_dir``, torchvision's ``root``."""
    for name, _ in MNIST.resources:
        packed = (files(__package__) / name).read_bytes()
        path = data_dir / "MNIST" / "raw" / name.removesuffix(".gz")
        checksum = int.from_bytes(packed[-8:-4], "little")  # gzip's, of the unpacked file
        if not path.exists() or zlib.crc32(path.read_bytes()) != checksum:
            with replacing(path) as unfinished:  # so no other process reads half a file
                unfinished.write_bytes(gzip.decompress(packed))


def read(raw_dir: Path, prefix: str) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 ``(N, 28, 28)``, and labels, int64 ``(N,)``, of ``train`` or ``t10k`` in ``raw_dir``."""
    # MNIST(...).data would prefer the unverified files of torchvision before 0.9, if they exist.
    images = read_image_file(raw_dir / f"{prefix}-images-idx3-ubyte")
    return images, read_label_file(raw_dir / f"{prefix}-labels-idx1-ubyte")
