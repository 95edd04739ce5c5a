"""A network, an optimiser and data of one's own: ``Classifier``, and ``main`` for its command line."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Result, assert_one_sentence, assert_same_run, curves, same
from lightning.pytorch import seed_everything
from torch import Tensor, nn

from mnist_lit import (
    MLP,
    Classifier,
    MNISTClassifier,
    MNISTDataModule,
    RandomDistortion,
    StepsPerExecution,
    main,
    make_trainer,
)
from mnist_lit.files import load_whole

RUN = Path("lightning_logs/version_0")
SHORT = ("fit", "--trainer.max_epochs=3", "--trainer.limit_train_batches=30", "--trainer.log_every_n_steps=7")


class Conv(Classifier):
    """The example of the documentation, with dropout."""

    def __init__(self, channels: int = 8, rate: float = 1e-3) -> None:
        layers = nn.Conv2d(1, channels, 5, 2), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(channels * 144, 10)
        super().__init__(nn.Sequential(*layers))
        self.save_hyperparameters()
        self.calls = 0
        self.network.register_forward_hook(self.count)

    def count(self, *_: Any) -> None:
        self.calls += self.training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["rate"])


@pytest.fixture
def my(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run ``python my.py ...``, which ends with ``main(Conv, MNISTDataModule)``, without a new process."""

    def run(*args: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["my.py", *args, f"--data.data_dir={data_dir}"])
        capsys.readouterr()
        status = 0
        try:
            main(Conv, MNISTDataModule)
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
    assert_one_sentence(my("test", "--model.channels=8"), "--model.channels is 8", "trained with 4")
    assert_one_sentence(my("fit", "--model.lr=0.1"), "--model.lr", "python my.py fit --help")
    assert_one_sentence(my("read"), "'read'", "choose from fit, validate, test, predict")


def test_a_run_of_ones_own_classes_continues_exactly(
    my: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert my(*SHORT).status == 0
    step, begun = Conv.training_step, []

    def interrupt(self: Conv, batch: Any, batch_idx: int) -> Tensor:
        begun.append(1)
        if len(begun) == 42:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Conv, "training_step", interrupt)
        stopped = my(*SHORT)
    assert stopped.status == 130
    saved, command = stopped.err.splitlines()
    assert saved == "stopped by SIGINT; saved lightning_logs/version_1/checkpoints/last.ckpt"
    assert command.startswith("Continue: python my.py fit --config lightning_logs/version_1/config.yaml ")
    assert my(*command.removeprefix("Continue: python my.py ").split()).status == 0
    assert_same_run(RUN, RUN.with_name("version_1"))


def test_checkpoints_of_other_classes_are_refused(my: Callable[..., Result], data_dir: Path) -> None:
    make_trainer(max_epochs=1, limit_train_batches=5, limit_val_batches=0).fit(
        MNISTClassifier(), MNISTDataModule(data_dir)
    )
    assert_one_sentence(
        my("test"), "of 'MNISTClassifier' and 'MNISTDataModule', not of Conv", "program that trained it"
    )
    assert_one_sentence(my("fit", "--ckpt_path=last"), "MNISTClassifier", "program that trained it")


@pytest.mark.parametrize("make", [Conv, MNISTClassifier])
def test_training_calls_the_network(data_dir: Path, tmp_path: Path, make: Callable[[], Classifier]) -> None:
    model, calls = make(), []
    model.network.register_forward_hook(lambda module, *_: calls.append(module.training))
    make_trainer(max_epochs=1, limit_train_batches=20, default_root_dir=tmp_path).fit(model, MNISTDataModule(data_dir))
    assert sum(calls) == 20


class Deep(MLP):
    """Has its own forward, and hyperparameters of its own in the class below."""

    def forward(self, images: Tensor) -> Tensor:
        return 2 * super().forward(images)


class Wide(Classifier):
    """Another subclass."""

    def __init__(self, width: int = 32) -> None:
        super().__init__(Deep([width]))
        self.save_hyperparameters()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class Named(MNISTClassifier):
    """Adds nothing."""


def test_hyperparameters_are_those_that_were_used(data_dir: Path, tmp_path: Path) -> None:
    for model in Conv(rate=0.01), Wide(), Named(lr=0.1):
        trainer = make_trainer(max_epochs=1, limit_train_batches=5, limit_val_batches=1, default_root_dir=tmp_path)
        trainer.fit(model, MNISTDataModule(data_dir))
        assert trainer.run_dir
        checkpoint = load_whole(trainer.run_dir / "checkpoints/last.ckpt")
        assert checkpoint["hyper_parameters"] == dict(model.hparams)
        assert checkpoint["classes"]["model"] == type(model).__qualname__
        assert type(model).load_from_checkpoint(trainer.run_dir / "checkpoints/last.ckpt").hparams == model.hparams
        assert set(curves(trainer.run_dir)) >= {"train_loss", "train_acc", "val_loss", "val_acc"}
    assert set(Conv().hparams) == {"channels", "rate"}


class Flat(Conv):
    """Would take images of any shape."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def test_rounds_of_many_steps_change_nothing_for_any_classifier(data_dir: Path, tmp_path: Path) -> None:
    ends = []
    for callbacks in [], [StepsPerExecution(1)]:
        seed_everything(0, verbose=False)
        model = Conv()
        options: dict[str, Any] = {"limit_train_batches": 60, "limit_val_batches": 1, "default_root_dir": tmp_path}
        make_trainer(max_epochs=2, callbacks=callbacks, **options).fit(model, MNISTDataModule(data_dir))
        assert model.calls == 120
        ends.append(dict(model.state_dict()))
    assert same(*ends)


def test_an_own_training_step_is_no_divergence(data_dir: Path, tmp_path: Path) -> None:
    class Own(Conv):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = self.loss(self(batch[0]), batch[1])
            self.log("own_loss", loss)
            return loss

    trainer = make_trainer(max_epochs=1, limit_train_batches=20, log_every_n_steps=5, default_root_dir=tmp_path)
    trainer.fit(Own(), MNISTDataModule(data_dir))
    assert trainer.run_dir
    assert "own_loss" in curves(trainer.run_dir)
    assert "train_loss" not in curves(trainer.run_dir)


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
    assert trainer.predict(model, loader)[0].shape == (8, 5)


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


def command_of(
    model: type[Classifier], *args: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Result:
    monkeypatch.setattr(sys, "argv", ["my.py", *args])
    capsys.readouterr()
    status = 0
    try:
        main(model)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    return Result(status, *capsys.readouterr())


def test_options_of_any_kind_are_those_of_the_checkpoint(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    here: dict[str, Any] = {"monkeypatch": monkeypatch, "capsys": capsys}
    data = f"--data.data_dir={data_dir}"
    short = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=5", data)
    fit = command_of(Options, "fit", *short, '--model.rates={"all": 0.5}', "--model.sizes=[4]", **here)
    assert fit.status == 0
    assert command_of(Options, "validate", data, **here).status == 0
    more = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=5", data)
    assert command_of(Options, "fit", *more, "--ckpt_path=last", **here).status == 0
    assert load_whole(RUN / "checkpoints/last.ckpt")["hyper_parameters"] == {"rates": {"all": 0.5}, "sizes": [4]}
    assert yaml.safe_load((RUN / "config.yaml").read_text())["model"]["rates"] == {"all": 0.5}
    assert command_of(Thin, "fit", *short, **here).status == 0
    assert command_of(Thin, "test", data, **here).status == 0
    assert_one_sentence(command_of(Forgetful, "fit", *short, **here), "Forgetful", "save_hyperparameters()")


def test_a_hyperparameter_that_no_checkpoint_can_hold_is_refused_at_once(data_dir: Path, tmp_path: Path) -> None:
    model = Conv()
    model.hparams["folder"] = Path("x")
    with pytest.raises(ValueError, match=r"hyperparameter folder is a PosixPath.*ignore=\['folder'\]"):
        make_trainer(max_epochs=1, default_root_dir=tmp_path).fit(model, MNISTDataModule(data_dir))
    assert list(tmp_path.iterdir()) == []


def test_upright_images_are_not_fed_to_another_network(data_dir: Path) -> None:
    trainer = make_trainer(max_epochs=1, limit_train_batches=5, limit_val_batches=0, logger=False)
    trainer.fit(MNISTClassifier(), MNISTDataModule(data_dir))
    loader: Any = trainer.train_dataloader
    for model in MNISTClassifier(upright=False), MNISTClassifier(), Conv(), Flat():
        with pytest.raises(ValueError, match="made upright for another network: make another loader"):
            make_trainer(max_epochs=1, limit_train_batches=5, logger=False).fit(model, loader)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (MNISTClassifier, {"lr": "0.1"}, "lr must be a number, got '0.1'"),
        (MNISTClassifier, {"hidden_sizes": 128}, "hidden_sizes must be a list, .* got 128"),
        (MNISTClassifier, {"hidden_sizes": [1.5]}, "hidden_sizes .* whole number, got 1.5"),
        (MNISTClassifier, {"upright": "false"}, "upright must be True or False, got 'false'"),
        (MNISTDataModule, {"augment": {"rot": 5}}, "augment must be .* rotation, .* got {'rot': 5}"),
        (MNISTDataModule, {"val_size": 0.1}, "val_size must be a whole number, got 0.1"),
        (MNISTDataModule, {"batch_size": "9"}, "batch_size must be a whole number, got '9'"),
        (RandomDistortion, {"rotation": "5"}, "rotation must be a number, got '5'"),
        (MLP(), {"images": torch.zeros(5, 28, 28)}, r"images must be float \(N, 1, 28, 28\), got \(5, 28, 28\)"),
    ],
)
def test_wrong_types_are_named(make: Callable[..., object], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_a_data_set_smaller_than_its_validation_split_is_refused(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_lit.mnist.read", lambda *_: (torch.zeros(100, 28, 28).byte(), torch.zeros(100).long()))
    with pytest.raises(ValueError, match="val_size must be below the number of training images, 100, got 5000"):
        MNISTDataModule(data_dir).setup("fit")


def test_double_precision_by_default_breaks_nothing() -> None:
    code = """
import torch
torch.set_default_dtype(torch.float64)
from pathlib import Path
from mnist_lit import MNISTClassifier, read_digits, read_picture
from mnist_lit.pictures import numbers
print(numbers(read_digits(read_picture(Path("docs/number.jpg")), MNISTClassifier.from_pretrained())))
"""
    assert run_python(code) == "['75811']\n"


def test_a_forked_process_reads_digits_after_its_parent_has() -> None:
    code = """
import os, sys
from pathlib import Path
from mnist_lit import MNISTClassifier, read_digits, read_picture
from mnist_lit.pictures import numbers
model, picture = MNISTClassifier.from_pretrained(), read_picture(Path("docs/number.jpg"))
read_digits(picture, model)
if os.fork() == 0:
    print(numbers(read_digits(picture, model)), flush=True)
    os._exit(0)
os.wait()
"""
    assert run_python(code) == "['75811']\n"


def run_python(code: str) -> str:
    """Run a program in a new process, with torch's usual number of threads, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command, root = [sys.executable, "-c", code], Path(__file__).parent.parent
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return result.stdout


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
