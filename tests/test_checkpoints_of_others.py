"""Checkpoints written by other classes, and options from elsewhere."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from conftest import CLI, assert_one_sentence
from lightning.pytorch import LightningDataModule
from torch import nn

from mnist_lit import Classifier, MNISTClassifier, MNISTDataModule, make_trainer
from mnist_lit.checkpoints import find_checkpoint
from mnist_lit.network import MLP

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


def train(model: Classifier, data: LightningDataModule) -> None:
    make_trainer(max_epochs=1, limit_train_batches=5, limit_val_batches=0).fit(model, data)


def test_a_network_trained_on_other_data_is_not_tested_on_mnist(cli: CLI, data_dir: Path) -> None:
    train(MNISTClassifier(), FashionMNISTDataModule(data_dir))
    for command in ("test",), ("predict",), ("report",), ("export", "--format=pt2", "--output=x.pt2"):
        assert_one_sentence(cli(*command), "FashionMNISTDataModule", "last.ckpt", "program that trained it")
    assert not Path("x.pt2").exists()
    MNISTClassifier.load_from_checkpoint(find_checkpoint("last", Path()), weights_only=True)


def test_the_commands_do_not_use_a_users_datamodule(cli: CLI, data_dir: Path) -> None:
    train(MNISTClassifier(), OwnDataModule(data_dir))
    for command in "test", "validate":
        assert_one_sentence(cli(command), "OwnDataModule", "program that trained it")


def test_the_checkpoint_of_a_subclass_is_refused_with_its_name(cli: CLI, data_dir: Path) -> None:
    train(ConvClassifier(), MNISTDataModule(data_dir))
    for command in ("test",), ("read", "x.png", "--ckpt_path=best"):
        assert_one_sentence(cli(*command), "ConvClassifier", "program that trained it")


def test_a_compiled_network_is_tested(cli: CLI, data_dir: Path) -> None:
    model = MNISTClassifier()
    train(model, MNISTDataModule(data_dir))
    checkpoint = torch.load(RUN / "checkpoints/last.ckpt")
    tested = cli("test").out.splitlines()[-1]
    # The names that torch.compile gives; compiling would take a minute.
    compiled = {f"network._orig_mod.{name.removeprefix('network.')}": value
                for name, value in checkpoint["state_dict"].items()}  # fmt: skip
    model.network = cast(MLP, torch.compile(model.network))
    assert {name for name in model.state_dict() if name.startswith("network")} == compiled.keys()
    torch.save({**checkpoint, "state_dict": compiled}, RUN / "checkpoints/last.ckpt")
    assert cli("test").out.splitlines()[-1] == tested
    assert_one_sentence(cli("fit", "--ckpt_path=last"), "compiled network", "continue it in Python")


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
