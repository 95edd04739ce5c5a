import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CLI, Stop, assert_same_run, curves, same, slow, without_seconds
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, LambdaCallback, ModelCheckpoint
from test_checkpoint import folder
from torch.utils.data import DataLoader, IterableDataset

from mnist_lit import Classifier, MNISTClassifier, MNISTDataModule, StepsPerExecution, make_trainer
from mnist_lit.run.checkpoint import RunCheckpoint

pytestmark = pytest.mark.usefixtures("_without_pictures")
BEST = str(Path(__file__).parents[2] / "configs" / "best.yaml")
# 1,130 images: each epoch ends with a smaller batch.
SHORT = ("fit", "--trainer.max_epochs=3", "--data.val_size=58870", "--trainer.limit_val_batches=2")


def steps(number: int) -> tuple[str, str]:
    return "--trainer.callbacks+=mnist_lit.StepsPerExecution", f"--trainer.callbacks.steps={number}"


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the steps after which callbacks are called, and a checkpoint can be saved."""
    called: list[int] = []

    def on_train_batch_end(self: Classifier, *_: Any) -> None:
        called.append(self.trainer.global_step)

    monkeypatch.setattr(Classifier, "on_train_batch_end", on_train_batch_end)
    return called


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--config", BEST, "--trainer.max_epochs=3", "--trainer.limit_train_batches=23"),
        ("--trainer.val_check_interval=5", "--trainer.log_every_n_steps=1"),
        slow(("--trainer.val_check_interval=8", "--trainer.check_val_every_n_epoch=null", "--trainer.max_steps=17")),
        ("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_acc", "--trainer.callbacks.mode=max",
         "--trainer.callbacks.stopping_threshold=0.2", "--trainer.min_steps=20", "--trainer.val_check_interval=3"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_rounds_of_many_steps_give_the_same_run(
    cli: CLI, tmp_path: Path, rounds: list[int], options: tuple[str, ...]
) -> None:
    command = (*SHORT, "--trainer.log_every_n_steps=10", *options)
    single = cli(*command, *steps(1))
    each_step = rounds.copy()
    assert each_step == list(range(1, len(each_step) + 1))
    one = folder(tmp_path)
    for more in (), steps(4):
        rounds.clear()
        again = cli(*command, *more)
        assert (again.status, again.err) == (0, "")
        assert re.sub(r"version_\d", "version_0", without_seconds(again.out)) == without_seconds(single.out)
        assert len(rounds) < len(each_step) or "--trainer.log_every_n_steps=1" in options
        assert rounds[-1] == each_step[-1]
        assert_same_run(one, folder(tmp_path), but=set())


@pytest.mark.usefixtures("_stop")
def test_an_exception_within_a_round_leaves_the_right_counts(cli: CLI, tmp_path: Path) -> None:
    saved: list[dict[str, Any]] = []
    for more in (), steps(1):
        Stop.at, Stop.by, Stop.begun = 20, None, 0  # the eighth of the second epoch
        place = tmp_path / str(len(saved))
        with pytest.raises(ZeroDivisionError):
            cli(*SHORT, "--trainer.callbacks+=OnExceptionCheckpoint", f"--trainer.callbacks.dirpath={place}", *more)
        saved.append(torch.load(place / "on_exception.ckpt"))
    assert saved[0]["global_step"] == 19
    for key in saved[0].keys() - {"loops"}:
        assert same(saved[0][key], saved[1][key]), key


@pytest.mark.parametrize("options", ["profiler=simple", "accumulate_grad_batches=2", "gradient_clip_val=1"])
def test_options_that_need_each_step_turn_rounds_off(cli: CLI, rounds: list[int], options: str) -> None:
    assert cli(*SHORT, "--trainer.max_epochs=1", f"--trainer.{options}").status == 0
    assert len(rounds) == 12


def test_rounds_are_a_callback_in_python(data_dir: Path, tmp_path: Path, rounds: list[int]) -> None:
    data = MNISTDataModule(data_dir, val_size=58_870)

    def train(model: MNISTClassifier, *callbacks: Callback, data: MNISTDataModule = data) -> dict[str, torch.Tensor]:
        rounds.clear()
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        limits: dict[str, Any] = {"max_epochs": 1, "limit_val_batches": 2, "logger": False, "accelerator": "cpu"}
        silent: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
        saves = RunCheckpoint(), ModelCheckpoint()
        trainer = Trainer(default_root_dir=root, callbacks=[*saves, *callbacks], **limits, **silent)
        trainer.fit(model, data)
        return model.state_dict()

    class Clipped(MNISTClassifier):
        def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
            self.clip_gradients(optimizer, gradient_clip_val=0.01, gradient_clip_algorithm="norm")

    class WithClosure(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            closure()  # and once more below, as SAM does
            return super().step(closure)

    class Sharp(MNISTClassifier):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return WithClosure(self.parameters(), lr=0.1)

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield from data.train_dataloader()

    class Streamed(MNISTDataModule):
        def train_dataloader(self) -> Any:
            return DataLoader(Stream(), batch_size=None)

    plain = train(MNISTClassifier())
    assert len(rounds) == 12
    assert same(plain, train(MNISTClassifier(), StepsPerExecution()))
    assert rounds == [1, 12]
    every = ModelCheckpoint(every_n_train_steps=5, save_top_k=-1)
    for each_step in every, EMAWeightAveraging(), LambdaCallback(on_train_batch_start=lambda *_: None):
        train(MNISTClassifier(), StepsPerExecution(), each_step)
        assert len(rounds) == 12
    assert {path.name for path in tmp_path.rglob("epoch*")} >= {"epoch=0-step=5.ckpt", "epoch=0-step=10.ckpt"}
    assert same(train(Clipped()), train(Clipped(), StepsPerExecution()))
    assert same(train(Sharp()), train(Sharp(), StepsPerExecution()))
    assert rounds == [1, 12]
    # Without a known length, the end of the epoch still validates and saves.
    count = len(list(tmp_path.rglob("last.ckpt")))
    train(MNISTClassifier(schedule="constant"), StepsPerExecution(), data=Streamed(data_dir, val_size=58_870))
    assert len(rounds) == 12
    assert len(list(tmp_path.rglob("last.ckpt"))) == count + 1


@pytest.mark.parametrize("logs_in", ["loss", "training_step", "nothing"])
def test_a_model_that_logs_in_each_step_gets_single_steps(
    data_dir: Path, tmp_path: Path, rounds: list[int], logs_in: str
) -> None:
    class OwnLoss(MNISTClassifier):
        def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            loss = super().loss(logits, labels)
            if self.training and logs_in == "loss":
                self.log("own", loss)
            return loss

    class LogsInStep(MNISTClassifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            self.log("own", loss)
            return loss

    trainer = make_trainer(max_epochs=2, default_root_dir=tmp_path, limit_val_batches=2, log_every_n_steps=6)
    trainer.fit(LogsInStep() if logs_in == "training_step" else OwnLoss(), MNISTDataModule(data_dir, val_size=58_870))
    assert rounds == ([1, 6, 12, 13, 18, 24] if logs_in == "nothing" else [*range(1, 25)])
    points = curves(tmp_path / "lightning_logs" / "version_0").get("own", [])
    assert [step for step, _ in points] == ([] if logs_in == "nothing" else [5, 11, 17, 23])
