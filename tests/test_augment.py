from pathlib import Path

import pytest
import torch
from conftest import Images
from torch import Tensor

from mnist_lit import MNISTDataModule
from mnist_lit.augment import RandomDistortion
from mnist_lit.datamodule import TensorBatches

STRONG = {"rotation": 20.0, "shift": 2.0, "scale": 0.2, "shear": 0.2, "elastic": 1.0}


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


def batches(images: Tensor, seed: int = 0, epoch: int = 0) -> Tensor:
    """Return the distorted images of an epoch, in their own order."""
    pixels, labels = (images[:, 0] * 255).round().byte(), torch.zeros(len(images), dtype=torch.int64)
    loader = TensorBatches(pixels, labels, 100, seed=seed, distortion=RandomDistortion(**STRONG))
    loader.set_epoch(epoch)
    return torch.cat([distorted for distorted, _ in loader])


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
    x, y = centres_of_mass(RandomDistortion(shear=0.5)(dots(0, 6)))
    assert torch.allclose(y, torch.tensor(6.0), atol=0.05)
    assert x.abs().max() == pytest.approx(3, abs=0.05)


def test_elastic_displacements_have_the_given_standard_deviation() -> None:
    moved = torch.stack(centres_of_mass(RandomDistortion(elastic=0.8, elastic_sigma=6)(dots(7, -5))))
    assert moved.std(dim=1).tolist() == pytest.approx([0.8, 0.8], rel=0.1)
    assert torch.corrcoef(moved)[0, 1].abs() < 0.1


def test_distortions_depend_only_on_seed_epoch_and_place(digits: Tensor) -> None:
    same_twice = digits[:500].repeat(2, 1, 1, 1)
    one = batches(same_twice, seed=1, epoch=2)
    torch.rand(1_000)
    assert torch.equal(one, batches(same_twice, seed=1, epoch=2))
    others = [batches(same_twice, seed, epoch) for seed, epoch in ((1, 1), (2, 2), (2, 1))]
    for other in [one.roll(500, dims=0), *others]:
        assert not torch.allclose(one[:100], other[:100], atol=0.1)


def test_only_training_images_are_distorted_and_only_on_request(data_dir: Path) -> None:
    plain, distorted = MNISTDataModule(data_dir), MNISTDataModule(data_dir, augment=RandomDistortion(**STRONG))
    for datamodule in plain, distorted:
        datamodule.setup("fit")
    validated, others = (next(iter(each.val_dataloader()))[0] for each in (plain, distorted))
    assert torch.equal(validated, others)
    before, after = (next(iter(each.train_dataloader()))[0] for each in (plain, distorted))
    assert not torch.allclose(before, after, atol=0.1)
    assert after.mean() == pytest.approx(float(before.mean()), rel=0.1)
