import gzip
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.transforms.functional import to_tensor

from mnist_lit import MNISTDataModule
from mnist_lit.datamodule import TensorBatches

PACKED = [name for name, _ in MNIST.resources]
FILES = [name.removesuffix(".gz") for name in PACKED]


def fitted(data_dir: Path, **options: Any) -> MNISTDataModule:
    datamodule = MNISTDataModule(data_dir, **options)
    datamodule.setup("fit")
    return datamodule


def train_epoch(datamodule: MNISTDataModule, epoch: int) -> tuple[Tensor, Tensor]:
    loader = datamodule.train_dataloader()
    assert isinstance(loader, TensorBatches)
    loader.set_epoch(epoch)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_the_test_batches_equal_torchvisions_images_after_to_tensor(data_dir: Path) -> None:
    datamodule = MNISTDataModule(data_dir, batch_size=999)
    datamodule.setup("test")
    images, labels = (torch.cat(parts) for parts in zip(*datamodule.test_dataloader(), strict=True))
    reference = MNIST(data_dir, train=False)
    assert torch.equal(labels, reference.targets)
    for index in (0, 998, 999, 9_999):
        assert torch.equal(images[index], to_tensor(reference[index][0]))


def test_an_epoch_has_each_training_image_once_with_its_label(data_dir: Path) -> None:
    images, labels = train_epoch(fitted(data_dir, val_size=0, batch_size=1_001), 3)
    assert (images.dtype, labels.dtype, images.shape) == (torch.float32, torch.int64, (60_000, 1, 28, 28))
    assert (float(images.min()), float(images.max())) == (0, 1)
    reference = MNIST(data_dir)
    # Sorted by their pixels, the images of the epoch and of the file are equal.
    seen = torch.cat((images.mul(255).byte().flatten(1), labels.byte().unsqueeze(1)), dim=1)
    filed = torch.cat((reference.data.flatten(1), reference.targets.byte().unsqueeze(1)), dim=1)
    assert sorted(map(bytes, seen.numpy())) == sorted(map(bytes, filed.numpy()))


def test_the_order_depends_only_on_seed_and_epoch(data_dir: Path) -> None:
    _, labels = train_epoch(fitted(data_dir, seed=1), 2)
    torch.rand(1_000)
    assert torch.equal(labels, train_epoch(fitted(data_dir, seed=1), 2)[1])
    for seed, epoch in (1, 1), (2, 2), (2, 1), (0, 3), (0, 2):
        assert not torch.equal(labels, train_epoch(fitted(data_dir, seed=seed), epoch)[1])


def test_validation_holds_out_the_same_images_for_every_seed(data_dir: Path) -> None:
    first, other = fitted(data_dir, seed=0), fitted(data_dir, seed=1)
    validation = torch.cat([images for images, _ in first.val_dataloader()])
    assert len(validation) == 5_000
    assert torch.equal(validation, torch.cat([images for images, _ in other.val_dataloader()]))
    trained_on = set(map(bytes, train_epoch(first, 0)[0].numpy()))
    # A few of MNIST's training images occur twice.
    assert sum(bytes(image) in trained_on for image in validation.numpy()) < 5


def test_preparing_the_data_needs_no_internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    datamodule = MNISTDataModule("~/new/folder")
    datamodule.prepare_data()
    datamodule.setup("test")
    assert len(datamodule.test_dataloader()) == 10  # of 1,000 images
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["MNIST"]


@pytest.fixture
def raw(tmp_path: Path, data_dir: Path) -> Path:
    """Return the folder of the files, with links to whole ones."""
    path = tmp_path / "MNIST" / "raw"
    path.mkdir(parents=True)
    for name in FILES:
        (path / name).hardlink_to(data_dir / "MNIST" / "raw" / name)
    return path


@pytest.mark.parametrize(("name", "damage"), [*zip(FILES, ["cut", "altered", "missing", "cut"], strict=True)])
def test_a_damaged_file_is_replaced(tmp_path: Path, raw: Path, name: str, damage: str) -> None:
    content = (raw / name).read_bytes()
    (raw / name).unlink()
    if damage == "cut":
        (raw / name).write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        (raw / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    MNISTDataModule(tmp_path).prepare_data()
    assert (raw / name).read_bytes() == content


def test_a_folder_with_whole_files_is_not_changed(tmp_path: Path, raw: Path) -> None:
    for folder in raw, raw.parent, tmp_path:
        folder.chmod(0o555)
    before = sorted((path, path.stat().st_mtime_ns) for path in [tmp_path, *tmp_path.rglob("*")])
    MNISTDataModule(tmp_path).prepare_data()
    assert before == sorted((path, path.stat().st_mtime_ns) for path in [tmp_path, *tmp_path.rglob("*")])


@pytest.mark.slow
def test_wheel_and_sdist_contain_the_images_their_notice_and_the_networks(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    source = tmp_path / "source"  # a copy without files of an earlier build
    shutil.copytree(root / "mnist_lit", source / "mnist_lit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "tests", source / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in":
        shutil.copy(root / name, source)
    build = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
    assert "mnist_lit/pretrained.ckpt" in names
    assert not any(name.startswith("tests") for name in names)  # they need more than an sdist has
    wheel_of = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-qw"]
    subprocess.run([*wheel_of, tmp_path, source], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        networks = [f"mnist_lit/{name}.ckpt" for name in ("pretrained", "pictures/rejector", "pictures/judge")]
        for name in [*networks, *(f"mnist_lit/mnist/{name}" for name in (*PACKED, "README.md"))]:
            assert wheel.read(name) == (root / name).read_bytes()
        images = gzip.decompress(wheel.read(f"mnist_lit/mnist/{PACKED[0]}"))
    assert len(images) == 16 + 60_000 * 28 * 28
