"""A network, an optimiser and data of one's own: ``Classifier``, and ``main`` for its command line."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Result, assert_one_sentence, curves
from lightning.pytorch import seed_everything
from torch import nn

from mnist_lit import (
    MLP,
    Classifier,
    MNISTClassifier,
    MNISTDataModule,
    main,
    make_trainer,
    read_digits,
    read_picture,
)
from mnist_lit.checkpoints import load_whole
from mnist_lit.pictures import numbers

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
def my(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run ``python my.py ...``, which ends with ``main(Conv, MNISTDataModule)``, without a new process."""

    def run(*args: str, model: type[Classifier] = Conv) -> Result:
        monkeypatch.setattr(sys, "argv", ["my.py", *args, f"--data.data_dir={data_dir}"])
        capsys.readouterr()
        status = 0
        try:
            main(model, MNISTDataModule)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        return Result(status, *capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    return run


def test_a_command_line_of_ones_own_classes(my: Callable[..., Result]) -> None:
    fit = my(*SHORT, "--model.channels=4", "--model.rate=0.01")
    assert fit.status == 0
    assert fit.out.endswith("Next: python my.py test --ckpt_path lightning_logs/version_0/checkpoints/best.ckpt\n")
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


def test_checkpoints_of_other_classes_are_refused(my: Callable[..., Result], data_dir: Path) -> None:
    make_trainer(max_epochs=1, limit_train_batches=5, limit_val_batches=0).fit(
        MNISTClassifier(), MNISTDataModule(data_dir)
    )
    assert_one_sentence(
        my("test"), "of 'MNISTClassifier' and 'MNISTDataModule', not of Conv", "program that trained it"
    )
    assert_one_sentence(my("fit", "--ckpt_path=last"), "MNISTClassifier", "program that trained it")


class Named(MNISTClassifier):
    """Adds nothing."""


def test_hyperparameters_are_those_that_were_used(data_dir: Path, tmp_path: Path) -> None:
    for model in Conv(rate=0.01), Named(lr=0.1):
        trainer = make_trainer(max_epochs=1, limit_train_batches=5, limit_val_batches=1, default_root_dir=tmp_path)
        trainer.fit(model, MNISTDataModule(data_dir))
        assert trainer.run_dir
        checkpoint = load_whole(trainer.run_dir / "checkpoints/last.ckpt")
        assert checkpoint["hyper_parameters"] == dict(model.hparams)
        assert checkpoint["classes"]["model"] == type(model).__qualname__
        assert type(model).load_from_checkpoint(trainer.run_dir / "checkpoints/last.ckpt").hparams == model.hparams
        assert set(curves(trainer.run_dir)) >= {"train_loss", "train_acc", "val_loss", "val_acc"}


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


class Options(Classifier):
    """Has options of other kinds, and a parent with others."""

    def __init__(self, rates: dict[str, float] | None = None, sizes: Sequence[int] = (8,)) -> None:
        super().__init__(MLP(sizes))
        self.save_hyperparameters()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=(self.hparams["rates"] or {"all": 0.1})["all"])


class Thin(MNISTClassifier):
    """Has fewer options than its parent."""

    def __init__(self, width: int = 16) -> None:
        super().__init__([width])
        self.save_hyperparameters()


class Forgetful(Classifier):
    """Does not record its options."""

    def __init__(self, width: int = 16) -> None:
        super().__init__(MLP([width]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_options_of_any_kind_are_those_of_the_checkpoint(my: Callable[..., Result]) -> None:
    short = ("fit", "--trainer.limit_train_batches=5", "--trainer.max_epochs")
    assert my(*short, "1", '--model.rates={"all": 0.5}', "--model.sizes=[4]", model=Options).status == 0
    assert my("validate", model=Options).status == 0
    assert my(*short, "2", "--ckpt_path=last", model=Options).status == 0
    assert load_whole(RUN / "checkpoints/last.ckpt")["hyper_parameters"] == {"rates": {"all": 0.5}, "sizes": [4]}
    assert yaml.safe_load((RUN / "config.yaml").read_text())["model"]["rates"] == {"all": 0.5}
    assert my(*short, "1", model=Thin).status == my("test", model=Thin).status == 0
    assert_one_sentence(my(*short, "1", model=Forgetful), "Forgetful", "save_hyperparameters()")


def test_double_precision_by_default_breaks_nothing() -> None:
    model, picture = MNISTClassifier.from_pretrained(), read_picture(Path(__file__).parent.parent / "docs/number.jpg")
    torch.set_default_dtype(torch.float64)
    try:
        assert numbers(read_digits(picture, model)) == ["75811"]
    finally:
        torch.set_default_dtype(torch.float32)


def test_training_equals_a_loop_that_shares_no_code_with_the_package(data_dir: Path, tmp_path: Path) -> None:
    from torch.utils.data import DataLoader, TensorDataset
    from torchvision.datasets import MNIST

    mnist = MNIST(data_dir)
    images, labels = mnist.data[:3000].unsqueeze(1) / 255, mnist.targets[:3000]

    def loader() -> Any:
        return DataLoader(TensorDataset(images, labels), 100, shuffle=True)

    def layers() -> nn.Sequential:
        seed_everything(0, verbose=False)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.Linear(128, 64), nn.Linear(64, 10))

    class Article(Classifier):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    plain = layers()
    batches, optimizer = loader(), torch.optim.SGD(plain.parameters(), lr=0.01)
    for _ in range(3):
        for pixels, digits in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(plain(pixels), digits).backward()
            optimizer.step()
    model = Article(layers())
    make_trainer(max_epochs=3, default_root_dir=tmp_path).fit(model, loader())
    assert all(torch.equal(*pair) for pair in zip(plain.parameters(), model.parameters(), strict=True))
