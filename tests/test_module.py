import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import curves
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import LambdaCallback
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import MNIST

from mnist_lit import MLP, MNISTClassifier, MNISTDataModule, RandomDistortion, RunCheckpoint, make_trainer
from mnist_lit.datamodule import TensorBatches

pytestmark = pytest.mark.usefixtures("_without_pictures")
ARTICLE: dict[str, Any] = {
    **{"activation": "identity", "upright": False, "schedule": "constant"},
    **{"lr": 0.01, "momentum": 0, "nesterov": False, "weight_decay": 0},
}


def test_the_articles_training_equals_a_plain_loop(data_dir: Path, tmp_path: Path) -> None:
    mnist = MNIST(data_dir)
    images, labels = mnist.data[:3000].unsqueeze(1) / 255, mnist.targets[:3000]
    seed_everything(0, verbose=False)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.Linear(128, 64), nn.Linear(64, 10))
    batches = DataLoader(TensorDataset(images, labels), 100, shuffle=True)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01)
    for _ in range(3):
        for pixels, digits in batches:
            optimizer.zero_grad()
            F.cross_entropy(plain(pixels), digits).backward()
            optimizer.step()
    seed_everything(0, verbose=False)
    model = MNISTClassifier(**ARTICLE)
    make_trainer(max_epochs=3, default_root_dir=tmp_path).fit(model, batches)
    assert all(torch.equal(*pair) for pair in zip(plain.parameters(), model.parameters(), strict=True))


def test_training_upright_digits_equals_a_plain_loop_to_the_last_bit(data_dir: Path, tmp_path: Path) -> None:
    model, network = MNISTClassifier(**ARTICLE | {"upright": True}), MLP(activation="identity")
    network.load_state_dict(model.network.state_dict())
    datamodule = MNISTDataModule(data_dir, val_size=0)
    datamodule.setup("fit")
    images, labels = datamodule.train_data
    blocks = [network.upright(block[:, None] / 255)[:, 0] for block in images.split(500)]
    images = (torch.cat(blocks) * 255).round().byte()
    loader = TensorBatches(images, labels, batch_size=100, shuffle=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    expected_losses = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        losses = []
        for images, labels in loader:
            loss = F.cross_entropy(network.layers(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        expected_losses.append(torch.stack(losses).mean().item())
    make_trainer(max_epochs=2, default_root_dir=tmp_path).fit(model, datamodule)
    logged = [loss for _, loss in curves(tmp_path / "lightning_logs/version_0")["train_loss"]]
    assert logged == pytest.approx(expected_losses, rel=1e-6)
    assert all(torch.equal(*pair) for pair in zip(model.network.parameters(), network.parameters(), strict=True))


def test_one_cycle_ends_near_zero_and_metrics_are_means_over_the_images(data_dir: Path, tmp_path: Path) -> None:
    rates: list[float] = []
    notes = LambdaCallback(
        on_train_batch_start=lambda trainer, *_: rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    )
    model = MNISTClassifier(lr=0.3)
    datamodule = MNISTDataModule(data_dir, val_size=250)
    trainer = make_trainer(max_epochs=2, limit_train_batches=40, callbacks=notes, default_root_dir=tmp_path)
    trainer.fit(model, datamodule)
    assert len(rates) == 80
    assert max(rates) == pytest.approx(0.3)
    assert rates[0] < 0.015
    assert rates[-1] < 0.00015
    images, labels = (torch.cat(parts) for parts in zip(*datamodule.val_dataloader(), strict=True))
    with torch.no_grad():
        logits = model(images)
    logged = {tag: points[-1][1] for tag, points in curves(tmp_path / "lightning_logs/version_0").items()}
    assert logged["val_acc"] == pytest.approx((logits.argmax(dim=1) == labels).float().mean().item())
    assert logged["val_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


def test_numbers_of_numpy_are_recorded_as_plain_ones() -> None:
    model = MNISTClassifier(cast(Any, np.array([16, 8])), lr=cast(Any, np.float32(0.125)), momentum=np.float64(0.5))
    data = MNISTDataModule(batch_size=cast(Any, np.int64(50)), augment=RandomDistortion(rotation=np.float64(5)))
    hparams = {**model.hparams, **data.hparams, **data.hparams["augment"]}
    recorded = {name: hparams[name] for name in ("lr", "momentum", "batch_size", "rotation")}
    assert recorded == {"lr": 0.125, "momentum": 0.5, "batch_size": 50, "rotation": 5}
    assert {type(number) for number in (*recorded.values(), *hparams["hidden_sizes"])} == {int, float}


class Inverted(RandomDistortion):
    """Of one's own: a checkpoint could not restore it."""


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (MNISTClassifier, {"lr": -1.0}, "lr must be above 0, got -1.0"),
        (MNISTClassifier, {"lr": math.nan}, "lr.*nan"),
        (MNISTClassifier, {"lr": "0.1"}, "lr must be a number, got '0.1'"),
        (MNISTClassifier, {"momentum": 1.0}, "momentum.*1.0"),
        (MNISTClassifier, {"momentum": 0.0}, "nesterov needs"),
        (MNISTClassifier, {"weight_decay": -1e-4}, "weight_decay.*-0.0001"),
        (MNISTClassifier, {"schedule": "cosine"}, "schedule.*'cosine'"),
        (MNISTClassifier, {"hidden_sizes": (128, 0)}, r"each of hidden_sizes must be at least 1, got 0"),
        (MNISTClassifier, {"hidden_sizes": [1.5]}, "hidden_sizes must be a whole number, got 1.5"),
        (RunCheckpoint, {"mode": "MIN"}, "mode must be max, min or auto, got 'MIN'"),
        (MNISTDataModule, {"augment": Inverted()}, r"augment must be a RandomDistortion or .*, got Inverted\("),
        (MNISTClassifier, {"activation": "swoosh"}, "activation.*relu.*'swoosh'"),
        (MNISTDataModule, {"batch_size": 0}, "batch_size.*0"),
        (MNISTDataModule, {"batch_size": "9"}, "batch_size must be a whole number, got '9'"),
        (MNISTDataModule, {"val_size": 60_000}, "val_size.*60000"),
        (MNISTDataModule, {"seed": 2**32}, "seed.*4294967295.*4294967296"),
        (MNISTDataModule, {"augment": {"rotation": 181}}, "rotation must be .*, got 181"),
        (RandomDistortion, {"shift": 14.5}, "shift must be .*, got 14.5"),
        (RandomDistortion, {"scale": 1}, "scale must be .*, got 1"),
        (RandomDistortion, {"shear": -0.1}, "shear must be .*, got -0.1"),
        (RandomDistortion, {"elastic_sigma": 0.5}, "elastic_sigma must be .*, got 0.5"),
        (MLP(), {"images": torch.zeros(5, 28, 28)}, r"images must be float \(N, 1, 28, 28\), got \(5, 28, 28\)"),
    ],
)
def test_an_argument_that_cannot_work_is_named(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
