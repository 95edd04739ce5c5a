"""Unpack and read MNIST's files (LeCun, Cortes and Burges 1998), which come with the package."""

from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import check_integrity

# MD5 of each unpacked file: torchvision checks only the .gz files.
_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def unpack(data_dir: Path) -> None:
    """Unpack MNIST's files into ``data_dir``, torchvision's ``root``, if any is missing or damaged.

    Raises:
        OSError: If ``data_dir`` cannot be written.
    """
    raw = data_dir / "MNIST" / "raw"
    if all(check_integrity(raw / name, md5) for name, md5 in _MD5.items()):
        return
    raw.mkdir(parents=True, exist_ok=True)
    # Unpacked in a temporary folder and then moved, so that no other process reads a partial file.
    with TemporaryDirectory(dir=data_dir) as root:
        unpacked = Path(root, "MNIST", "raw")
        unpacked.mkdir(parents=True)
        for name, _ in MNIST.resources:
            (unpacked / name).write_bytes((files(__package__) / name).read_bytes())
        MNIST(root, download=True)  # verifies and unpacks them; since they are there, it downloads nothing
        for name in _MD5:
            (unpacked / name).replace(raw / name)


def read(raw_dir: Path, prefix: str) -> tuple[Tensor, Tensor]:
    """Return images, uint8 ``(N, 28, 28)``, and labels, int64 ``(N,)``.

    Args:
        raw_dir: Folder of the unpacked files.
        prefix: ``train`` or ``t10k``.
    """
    # MNIST(...).data would prefer the unverified files of torchvision before 0.9, if they exist.
    images = read_image_file(raw_dir / f"{prefix}-images-idx3-ubyte")
    return images, read_label_file(raw_dir / f"{prefix}-labels-idx1-ubyte")
