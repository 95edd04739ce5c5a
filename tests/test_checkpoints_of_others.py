"""Checkpoints written by other classes, and options from elsewhere."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CLI, assert_one_sentence
from lightning.pytorch import LightningDataModule
from torch import nn

from mnist_lit import Classifier, MNISTClassifier, MNISTDataModule, make_trainer
from mnist_lit.checkpoints import find_checkpoint

RUN = Path("lightning_logs/version_0")


class FashionMNISTDataModule(MNISTDataModule):
    """Has MNIST's images under another name."""


class OwnDataModule(LightningDataModule):
    """Has its own hyperparameter, with the name of one of MNISTDataModule's."""

    def __init__(self, data_dir: Path, val_size: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters("val_size")
        self.mnist = MNISTDataModule(data_dir)

    def setup(self, stage: str) -> None:
        self.mnist.setup(stage)

    def train_dataloader(self) -> Any:
        return self.mnist.train_dataloader()


class ConvClassifier(Classifier):
    """Has another network."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


@pytest.mark.parametrize(
    ("model", "data", "commands"),
    [
        (
            MNISTClassifier,
            FashionMNISTDataModule,
            [["test"], ["predict"], ["report"], ["export", "--output=x.onnx"]],
        ),
        (MNISTClassifier, OwnDataModule, [["test"], ["validate"], ["fit", "--ckpt_path=last"]]),
        (ConvClassifier, MNISTDataModule, [["test"], ["read", "x.png", "--ckpt_path=best"]]),
    ],
)
def test_checkpoints_of_other_classes_are_refused_with_their_names(
    cli: CLI,
    data_dir: Path,
    model: type[MNISTClassifier | ConvClassifier],
    data: type[MNISTDataModule | OwnDataModule],
    commands: list[list[str]],
) -> None:
    trained = model()
    make_trainer(max_epochs=1, limit_train_batches=5, limit_val_batches=0).fit(trained, data(data_dir))
    other = ({model.__name__, data.__name__} - {"MNISTClassifier", "MNISTDataModule"}).pop()
    for command in commands:
        assert_one_sentence(cli(*command), other, "last.ckpt", "program that trained it")
    assert not Path("x.onnx").exists()
    model.load_from_checkpoint(find_checkpoint("last"), weights_only=True)


def test_environment_variables_set_options(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_FIT__TRAINER__MAX_EPOCHS", "1")
    monkeypatch.setenv("PL_FIT__TRAINER__LIMIT_TRAIN_BATCHES", "5")
    assert cli("fit").out.splitlines()[0].startswith("Epoch 1/1, Loss: ")
    assert torch.load(RUN / "checkpoints/last.ckpt")["global_step"] == 5


def test_a_batch_size_is_found_with_distorted_images(cli: CLI) -> None:
    finder = (
        "--trainer.callbacks+=BatchSizeFinder",
        "--trainer.callbacks.steps_per_trial=1",
        "--trainer.callbacks.max_trials=4",
    )
    options = ("--model.schedule=constant", "--data.augment.rotation=10", "--trainer.max_steps=20")
    assert cli("fit", *options, *finder).status == 0
    assert cli("fit", f"--config={RUN}/config.yaml").status == 0
    one, two = (torch.load(RUN.with_name(f"version_{n}") / "checkpoints/last.ckpt")["state_dict"] for n in (0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
