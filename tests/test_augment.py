from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Images, SeenBatches
from lightning.pytorch import Trainer
from torch import Tensor

from mnist_lit import MLP, MNISTClassifier, MNISTDataModule
from mnist_lit.augment import RandomDistortion

STRONG = {"rotation": 20.0, "shift": 2.0, "scale": 0.2, "shear": 0.2, "elastic": 1.0}
AUGMENT: dict[str, Any] = {"augment": RandomDistortion(**STRONG)}


@pytest.fixture(scope="module")
def digits(test_images: Images) -> Tensor:
    return test_images[0][:1000]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def dots(x: float, y: float, count: int = 4_000) -> Tensor:
    """Return images of a soft dot, ``x`` pixels to the right of the middle and ``y`` below it."""
    pixels = torch.arange(28) - 13.5
    dot = torch.exp(-((pixels - x) ** 2 + (pixels[:, None] - y) ** 2) / 2)
    return dot.expand(count, 1, 28, 28)


def centres_of_mass(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the centres are to the right of the middle and below it, in pixels."""
    pixels = torch.arange(28) - 13.5
    mass = images.sum((1, 2, 3))
    return (images * pixels).sum((1, 2, 3)) / mass, (images * pixels[:, None]).sum((1, 2, 3)) / mass


def seen(data_dir: Path, root: Path, *, overfit_batches: int = 0, **options: Any) -> SeenBatches:
    """Return the batches of two epochs of training."""
    callback = SeenBatches()
    few: dict[str, Any] = {"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 1, "default_root_dir": root}
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        **few,
        **quiet,
        accelerator="cpu",
        overfit_batches=overfit_batches,
        callbacks=callback,
        enable_checkpointing=False,
    )
    trainer.fit(MNISTClassifier(), MNISTDataModule(data_dir, **options))
    return callback


def test_distorted_images_are_images_and_without_strength_the_same(digits: Tensor) -> None:
    assert torch.allclose(RandomDistortion()(digits), digits, atol=1e-5)
    distorted = RandomDistortion(**STRONG)(digits.double())
    assert (distorted.shape, distorted.dtype) == (digits.shape, torch.float64)
    assert 0 <= distorted.min() < distorted.max() <= 1
    assert distorted.mean() == pytest.approx(float(digits.mean()), rel=0.1)  # as much ink as before


@pytest.mark.parametrize("name", STRONG)
def test_each_kind_of_distortion_differs_from_image_to_image(digits: Tensor, name: str) -> None:
    distorted = RandomDistortion(**{name: STRONG[name]})(digits[:1].expand(20, 1, 28, 28))
    assert len(distorted.flatten(1).unique(dim=0)) == 20
    assert ((distorted - digits[0]).abs().amax((1, 2, 3)) > 0.1).sum() >= 15  # the other strengths are near 0 by chance


def test_a_shift_stays_within_its_limit_and_has_any_direction() -> None:
    x, y = centres_of_mass(RandomDistortion(shift=3)(dots(1, -2)))
    for moved in x - 1, y + 2:
        assert moved.abs().max() == pytest.approx(3, abs=0.05)
        assert moved.mean() == pytest.approx(0, abs=0.15)
    assert torch.corrcoef(torch.stack((x, y)))[0, 1].abs() < 0.1


def test_a_rotation_is_around_the_middle_and_stays_within_its_limit() -> None:
    x, y = centres_of_mass(RandomDistortion(rotation=30)(dots(8, 0)))
    assert torch.allclose(torch.hypot(x, y), torch.tensor(8.0), atol=0.05)
    angles = torch.atan2(y, x).rad2deg()
    assert angles.max() == pytest.approx(30, abs=0.5)
    assert angles.min() == pytest.approx(-30, abs=0.5)


def test_scale_and_shear_stay_within_their_limits() -> None:
    x, y = centres_of_mass(RandomDistortion(scale=0.2)(dots(8, 6)))
    for ratio in 8 / x, 6 / y:
        assert ratio.max() == pytest.approx(1.2, abs=0.01)
        assert ratio.min() == pytest.approx(0.8, abs=0.01)
    # Coordinates are divided by the scale: a square of 12 pixels becomes 8 to 24 pixels wide.
    square = torch.zeros(2_000, 1, 28, 28)
    square[:, :, 8:20, 8:20] = 1
    widths = RandomDistortion(scale=0.5)(square)[:, 0, 13:15].mean(dim=1).sum(dim=1)
    assert widths.min() == pytest.approx(12 / 1.5, abs=0.1)
    assert widths.max() == pytest.approx(12 / 0.5, abs=0.1)
    x, y = centres_of_mass(RandomDistortion(shear=0.5)(dots(0, 6)))
    assert torch.allclose(y, torch.tensor(6.0), atol=0.05)
    assert x.abs().max() == pytest.approx(3, abs=0.05)


def test_elastic_displacements_have_the_given_standard_deviation() -> None:
    moved = torch.stack(centres_of_mass(RandomDistortion(elastic=0.8, elastic_sigma=6)(dots(7, -5))))
    assert moved.std(dim=1).tolist() == pytest.approx([0.8, 0.8], rel=0.1)
    assert torch.corrcoef(moved)[0, 1].abs() < 0.1


def test_distortions_depend_only_on_seed_epoch_and_batch(data_dir: Path, tmp_path: Path) -> None:
    batches = seen(data_dir, tmp_path, seed=1, **AUGMENT).train
    assert len(batches) == 6
    torch.rand(1_000)
    for batch, again in zip(batches, seen(data_dir, tmp_path, seed=1, **AUGMENT).train, strict=True):
        assert torch.equal(batch, again)
    # With overfit_batches each epoch and seed has the same images: only the distortions differ.
    one, other = (seen(data_dir, tmp_path, overfit_batches=3, seed=seed, **AUGMENT).train for seed in (1, 2))
    plain = seen(data_dir, tmp_path, overfit_batches=3).train
    assert all(torch.equal(plain[batch], plain[batch + 3]) for batch in range(3))
    for first, second in (one[0], one[3]), (one[1], one[4]), (one[0], other[0]):
        assert not torch.allclose(first, second, atol=0.1)


def test_only_training_images_are_distorted_and_only_on_request(data_dir: Path, tmp_path: Path) -> None:
    plain, distorted = seen(data_dir, tmp_path), seen(data_dir, tmp_path, **AUGMENT)
    for before, after in zip(plain.val, distorted.val, strict=True):
        assert torch.equal(before, after)
    for before, after in zip(plain.train, distorted.train, strict=True):
        assert not torch.allclose(before, after, atol=0.1)
        assert after.mean() == pytest.approx(float(before.mean()), rel=0.1)
    datamodule = MNISTDataModule(data_dir)
    datamodule.setup("fit")
    batch, _ = next(iter(datamodule.train_dataloader()))  # without a Trainer, as they are
    torch.testing.assert_close(plain.train[0].view(-1, 1, 28, 28), MLP().upright(batch), rtol=0, atol=0.51 / 255)
