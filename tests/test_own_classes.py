"""A network, an optimiser and data of one's own: ``Classifier``, and ``main`` for its command line."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from conftest import CLI, assert_one_sentence, curves, hparams_of
from torch import nn

from mnist_lit import MLP, Classifier, MNISTClassifier, MNISTDataModule, RunCheckpoint, make_trainer
from mnist_lit.checkpoints import PRETRAINED, find_checkpoint, load_whole
from mnist_lit.datamodule import Batch
from mnist_lit.pictures import numbers, read_digits, read_picture

RUN = Path("lightning_logs/version_0")
SHORT = ("fit", "--trainer.max_epochs=3", "--trainer.limit_train_batches=30", "--trainer.log_every_n_steps=7")


class Conv(Classifier):
    """The example of the documentation, with dropout."""

    def __init__(self, channels: int = 8, rate: float = 1e-3) -> None:
        layers = nn.Conv2d(1, channels, 5, 2), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(channels * 144, 10)
        super().__init__(nn.Sequential(*layers))
        self.save_hyperparameters()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["rate"])


@pytest.fixture
def my(cli: CLI) -> CLI:
    """Run ``python my.py ...``."""
    return partial(cli, model=Conv, data=MNISTDataModule)


def test_a_command_line_of_ones_own_classes(my: CLI) -> None:
    fit = my(*SHORT, "--model.channels=4", "--model.rate=0.01")
    assert fit.status == 0
    assert fit.out.endswith("Next: python my.py test --ckpt_path lightning_logs/version_0\n")
    hparams = yaml.safe_load((RUN / "hparams.yaml").read_text())
    assert {name for name in hparams if name not in MNISTDataModule().hparams} == {"channels", "rate"}
    assert load_whole(RUN / "checkpoints/last.ckpt")["hyper_parameters"] == {"channels": 4, "rate": 0.01}
    for command in "test", "validate":
        tested = my(command)
        assert tested.status == 0
        assert "Accuracy of the network on the " in tested.out
    predicted = my("predict")
    assert len(predicted.out.splitlines()) == 10_001
    assert_one_sentence(my("fit", "--ckpt_path=last", "--model.channels=8"), "--model.channels is 8", "trained with 4")
    assert_one_sentence(my("fit", "--model.lr=0.1"), "--model.lr", "python my.py fit --help")
    assert_one_sentence(my("read"), "'read'", "choose from 'fit', 'validate', 'test', 'predict'")


class Named(MNISTClassifier):
    """Adds nothing."""


class FashionMNISTDataModule(MNISTDataModule):
    """Has MNIST's images under another name."""


def test_checkpoints_of_other_classes_are_refused_with_their_names(cli: CLI, my: CLI, data_dir: Path) -> None:
    for model, data in (Conv(), MNISTDataModule(data_dir)), (Named(lr=0.1), FashionMNISTDataModule(data_dir)):
        trainer = make_trainer(max_epochs=1, limit_train_batches=5, limit_val_batches=1)
        trainer.fit(model, data)
        path = find_checkpoint("last")
        checkpoint = load_whole(path)
        assert checkpoint["hyper_parameters"] == dict(model.hparams)
        assert checkpoint["classes"] == {"model": type(model).__qualname__, "datamodule": type(data).__qualname__}
        assert type(model).load_from_checkpoint(path).hparams == model.hparams
        assert trainer.run_dir
        assert set(curves(trainer.run_dir)) >= {"train_loss", "train_acc", "val_loss", "val_acc"}
        for command in ["test"], ["read", "x.png", "--ckpt_path=last"], ["fit", "--ckpt_path=last"]:
            name = type(model).__name__
            assert_one_sentence(cli(*command), f"of '{name}'", ".ckpt is", "program that trained it")
    make_trainer(max_epochs=1, limit_train_batches=5, limit_val_batches=0).fit(MNISTClassifier(), data)
    for command in ["test"], ["validate"], ["predict"], ["report"], ["export", "--output=x.onnx"]:
        assert_one_sentence(cli(*command), "FashionMNISTDataModule", "last.ckpt", "program that trained it")
    assert not Path("x.onnx").exists()
    for command in ["test"], ["fit", "--ckpt_path=last"]:
        assert_one_sentence(my(*command), "of 'MNISTClassifier' and 'FashionMNISTDataModule', not of Conv")


def test_other_images_and_classes(tmp_path: Path) -> None:
    class Coloured(Classifier):
        def __init__(self) -> None:
            super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), num_classes=5)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    images = torch.utils.data.TensorDataset(torch.rand(40, 3, 32, 32), torch.arange(40) % 5)
    loader: Any = torch.utils.data.DataLoader(images, batch_size=8)
    model, trainer = Coloured(), make_trainer(max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(model, loader, loader)
    assert 0 <= trainer.test(model, loader, ckpt_path="best", verbose=False)[0]["test_acc"] <= 1
    predicted: Any = trainer.predict(model, loader)
    assert predicted[0].shape == (8, 5)


class OfSeveralLoaders(MNISTClassifier):
    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
        return super().validation_step(batch, batch_idx)


def test_each_of_several_loaders_is_measured_on_its_own(test_images: Any) -> None:
    images, labels = (each[:300] for each in test_images)
    sets = [torch.utils.data.TensorDataset(images, each) for each in (labels, (labels + 1) % 10)]
    loaders = [torch.utils.data.DataLoader(each, batch_size=100) for each in sets]
    model = OfSeveralLoaders.load_from_checkpoint(PRETRAINED)
    right, wrong = make_trainer(logger=False).validate(model, loaders, verbose=False)
    assert right["val_acc/dataloader_idx_0"] > 0.99
    assert wrong["val_acc/dataloader_idx_1"] < 0.01


class Options(Classifier):
    def __init__(self, rates: dict[str, float] | None = None, sizes: Sequence[int] = (8,)) -> None:
        super().__init__(MLP(sizes))
        self.save_hyperparameters()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=(self.hparams["rates"] or {"all": 0.1})["all"])


class Thin(MNISTClassifier):
    def __init__(self, width: int = 16) -> None:
        super().__init__([width])
        self.save_hyperparameters()


class Forgetful(Classifier):
    def __init__(self, width: int = 16) -> None:
        super().__init__(MLP([width]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class PartlyForgetful(Forgetful):
    def __init__(self, width: int = 16, rate: float = 0.1) -> None:
        super().__init__(width)
        self.save_hyperparameters("rate")


def test_options_of_any_kind_are_those_of_the_checkpoint(my: CLI) -> None:
    short = ("fit", "--trainer.limit_train_batches=5", "--trainer.max_epochs")
    assert my(*short, "1", '--model.rates={"all": 0.5}', "--model.sizes=[4]", model=Options).status == 0
    assert my("validate", model=Options).status == 0
    assert my(*short, "2", "--ckpt_path=last", model=Options).status == 0
    assert load_whole(RUN / "checkpoints/last.ckpt")["hyper_parameters"] == {"rates": {"all": 0.5}, "sizes": [4]}
    assert yaml.safe_load((RUN / "config.yaml").read_text())["model"]["rates"] == {"all": 0.5}
    assert my(*short, "1", model=Thin).status == my("test", model=Thin).status == 0
    for model in Forgetful, PartlyForgetful:
        said = f"{model.__name__} does not record its option --model.width"
        assert_one_sentence(my(*short, "1", model=model), said, "save_hyperparameters()")


class Weighted(MNISTClassifier):
    """Has weights in its loss, a hyperparameter with a Trainer's name, and is worse after the second epoch."""

    def __init__(self, max_epochs: int = 5, **options: Any) -> None:
        super().__init__(**options)
        self.save_hyperparameters()
        self.register_buffer("weights", torch.ones(10))

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, labels, cast(torch.Tensor, self.weights))

    def on_validation_epoch_start(self) -> None:
        if self.current_epoch:
            nn.init.zeros_(cast(torch.Tensor, self.network.layers[-1].weight))

    def predict_step(self, batch: Batch, batch_idx: int) -> Any:
        return {"probabilities": super().predict_step(batch, batch_idx)}


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
def test_a_subclass_with_a_loss_and_hyperparameters_of_its_own(data_dir: Path, my: CLI, precision: Any) -> None:
    model = Weighted(max_epochs=7, lr=0.125, momentum=0.5, hidden_sizes=[16])
    trainer = make_trainer(
        callbacks=RunCheckpoint("val_loss"), max_epochs=2, limit_train_batches=20, precision=precision
    )
    trainer.fit(model, MNISTDataModule(data_dir))
    assert trainer.run_dir
    (_, first), (_, second) = curves(trainer.run_dir)["val_acc"]
    assert second < 0.2 < first
    assert [best for _, best in curves(trainer.run_dir)["best_val_acc"]] == [first, first]
    hparams = hparams_of(trainer.run_dir)
    assert (hparams["lr"].number_value, hparams["max_epochs"].number_value) == (0.125, 7)
    assert set(hparams) == {"seed", "lr", "momentum", "max_epochs", "hidden_sizes"}  # not the defaults
    with pytest.raises(ValueError, match=r"nothing to train: .* make another Trainer"):
        trainer.fit(Weighted(), MNISTDataModule(data_dir))
    assert "error: predict_step must return the probabilities" in my("predict", model=Weighted).err


def test_double_precision_by_default_breaks_nothing() -> None:
    model, picture = MNISTClassifier.from_pretrained(), read_picture(Path(__file__).parent.parent / "docs/number.jpg")
    torch.set_default_dtype(torch.float64)
    try:
        assert numbers(read_digits(picture, model)) == ["75811"]
    finally:
        torch.set_default_dtype(torch.float32)
