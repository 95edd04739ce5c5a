"""``make_trainer`` and Trainers made by hand: one call after another, as in a notebook."""

import csv
import logging
import os
import pickle
import re
import signal
import threading
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import assert_same_run, curves, same
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from own import OwnCNN, own_loaders

from mnist_lit import (
    EpochLines,
    MNISTClassifier,
    MNISTDataModule,
    RandomDistortion,
    RunCheckpoint,
    RunInterruptedError,
    make_trainer,
)
from mnist_lit.files import PRETRAINED, load_whole

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
SHORT: dict[str, Any] = {"limit_train_batches": 30, "limit_val_batches": 2, "log_every_n_steps": 10}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(data_dir: Path) -> MNISTDataModule:
    return MNISTDataModule(data_dir)


def model(seed: int = 0, **options: Any) -> MNISTClassifier:
    seed_everything(seed, verbose=False)
    return MNISTClassifier(**options)


def run_dir(number: int = 0) -> Path:
    return Path(f"lightning_logs/version_{number}")


def by_hand(**options: Any) -> Trainer:
    return Trainer(enable_progress_bar=False, enable_model_summary=False, **options)


class Sends(Callback):
    """Sends a signal to this process in a hook."""

    def __init__(self, hook: str, step: int) -> None:
        self.step: int | None = step
        setattr(self, hook, self.send)

    def send(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.step = None
            os.kill(os.getpid(), signal.SIGINT)


def test_a_trainer_made_in_python_trains_like_the_command(data: MNISTDataModule, tmp_path: Path, cli: Any) -> None:
    trainer = make_trainer(max_epochs=2, **SHORT)
    trainer.fit(model(), data)
    options = [f"--trainer.{name}={value}" for name, value in SHORT.items()]
    assert cli("fit", "--trainer.max_epochs=2", *options).status == 0
    ours = {tag: points for tag, points in curves(run_dir(1)).items() if tag in curves(run_dir(0))}
    assert curves(run_dir(0)) == ours
    assert {"train_loss", "train_acc", "val_loss", "val_acc"} <= ours.keys()
    one, two = (load_whole(run_dir(number) / "checkpoints/last.ckpt") for number in (0, 1))
    assert same(one["state_dict"], two["state_dict"])


def test_a_trainer_changes_nothing_for_the_rest_of_the_program(data: MNISTDataModule) -> None:
    threads, handlers = torch.get_num_threads(), [signal.getsignal(each) for each in SIGNALS]
    seen: list[int] = []

    class Seen(Callback):
        def on_train_start(self, *_: Any) -> None:
            seen.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        filters = [*warnings.filters]
        trainer = make_trainer(max_epochs=1, callbacks=[Seen()], **SHORT)
        trainer.fit(model(), data)
        assert (seen, torch.get_num_threads()) == ([1], 2)
        assert [*warnings.filters] == filters
        assert [signal.getsignal(each) for each in SIGNALS] == handlers
        assert not any(handler.filters for handler in logging.getLogger("lightning.pytorch").handlers)
    finally:
        torch.set_num_threads(threads)


def test_best_and_last_are_names_of_checkpoints(data: MNISTDataModule) -> None:
    trainer = make_trainer(max_epochs=1, **SHORT)
    with pytest.raises(ValueError, match="there is no checkpoint in lightning_logs"):
        trainer.test(model(), data, ckpt_path="last")
    trainer.fit(model(), data)
    checkpoints = run_dir() / "checkpoints"
    files = {
        "best": checkpoints / "best.ckpt",
        "last": checkpoints / "last.ckpt",
        str(run_dir()): checkpoints / "best.ckpt",
    }
    for name, file in {**files, "pretrained": PRETRAINED}.items():
        for tester in trainer, make_trainer(logger=False):
            other = model(seed=1, activation="silu" if name == "pretrained" else "relu")
            tester.test(other, data, ckpt_path=name, verbose=False)
            assert same(dict(other.state_dict()), load_whole(file)["state_dict"])


def test_testing_a_checkpoint_does_not_change_the_next_training(data: MNISTDataModule, data_dir: Path) -> None:
    make_trainer(max_steps=20, max_epochs=2, **SHORT).fit(model(schedule="constant"), data)
    assert load_whole(run_dir() / "checkpoints/last.ckpt")["global_step"] == 20
    for evaluate in "test", "validate":
        tester = by_hand(logger=False, callbacks=[RunCheckpoint()], limit_test_batches=1, limit_val_batches=1)
        getattr(tester, evaluate)(model(), data, ckpt_path=run_dir() / "checkpoints/last.ckpt", verbose=False)
    fresh = make_trainer(max_epochs=1, **SHORT)
    fresh.fit(model(), data)
    assert fresh.global_step == 30
    make_trainer(max_epochs=1, **SHORT).fit(model(), MNISTDataModule(data_dir))
    assert_same_run(run_dir(1), run_dir(2))


def test_a_trainer_keeps_its_run_after_testing_another(data: MNISTDataModule) -> None:
    make_trainer(max_epochs=1, **SHORT).fit(model(), data)
    trainer, trained = make_trainer(max_epochs=1, **SHORT), model(seed=1, schedule="constant")
    trainer.fit(trained, data)
    trainer.test(model(), data, ckpt_path=run_dir(0) / "checkpoints/best.ckpt", verbose=False)
    run = trainer.checkpoint_callback
    assert isinstance(run, RunCheckpoint)
    assert "version_1" in run.best_model_path
    trainer.fit_loop.max_epochs = 2
    trainer.fit(trained, data)
    assert load_whole(run_dir(1) / "checkpoints/last.ckpt")["global_step"] == 60
    assert load_whole(run_dir(0) / "checkpoints/last.ckpt")["global_step"] == 30


def test_a_trainer_continues_after_tests_and_validations(data: MNISTDataModule) -> None:
    trainer, trained = make_trainer(max_epochs=1, **SHORT), model(schedule="constant")
    trainer.fit(trained, data)
    trainer.test(trained, data, verbose=False)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(trained, data)
    trainer.validate(trained, data, ckpt_path="best", verbose=False)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(trained, data)
    assert [step for step, _ in curves(run_dir())["train_loss"]] == [29, 59, 89]
    assert load_whole(run_dir() / "checkpoints/last.ckpt")["global_step"] == 90
    assert len(list(Path("lightning_logs").iterdir())) == 1


def test_two_trainers_at_once_share_a_datamodule(data_dir: Path) -> None:
    data = MNISTDataModule(data_dir, augment=RandomDistortion(rotation=10))

    class TrainsAnother(Callback):
        def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.current_epoch == 1:
                make_trainer(max_epochs=1, **SHORT).fit(model(seed=1), data)

    for callbacks in [TrainsAnother()], []:
        make_trainer(max_epochs=2, callbacks=callbacks, **SHORT).fit(model(), data)
    assert curves(run_dir(0)) == curves(run_dir(2))
    one, two = (load_whole(run_dir(number) / "checkpoints/last.ckpt")["state_dict"] for number in (0, 2))
    assert same(one, two)


@pytest.mark.parametrize(("hook", "step"), [("on_train_batch_end", 45), ("on_validation_start", 60)])
def test_an_interrupted_cell_continues_when_it_is_run_again(data: MNISTDataModule, hook: str, step: int) -> None:
    for callbacks in [Sends(hook, step)], []:
        trainer, trained = make_trainer(max_epochs=3, callbacks=callbacks, **SHORT), model()
        if callbacks:
            with pytest.raises(RunInterruptedError, match=r"stopped by SIGINT; saved .*last\.ckpt"):
                trainer.fit(trained, data)
        trainer.fit(trained, data)
        assert trainer.current_epoch == 3
    assert_same_run(run_dir(0), run_dir(1))
    one, two = (load_whole(run_dir(number) / "checkpoints/last.ckpt") for number in (0, 1))
    assert one["loops"]["fit_loop"]["epoch_progress"] == two["loops"]["fit_loop"]["epoch_progress"]


def test_after_an_interruption_another_model_starts_from_the_beginning(data: MNISTDataModule) -> None:
    trainer = make_trainer(max_epochs=1, callbacks=[Sends("on_train_batch_end", 15)], **SHORT)
    with pytest.raises(RunInterruptedError, match="nothing was saved, since no epoch has ended"):
        trainer.fit(model(), data)
    other = model(seed=1)
    trainer.fit(other, data)
    reference = model(seed=1)
    make_trainer(max_epochs=1, **SHORT).fit(reference, data)
    assert same(dict(other.state_dict()), dict(reference.state_dict()))


@pytest.mark.parametrize("call", ["test", "validate", "predict"])
def test_ctrl_c_is_a_keyboard_interrupt_whatever_runs(data: MNISTDataModule, call: str) -> None:
    trainer = make_trainer(logger=False, callbacks=[Sends(f"on_{call}_batch_end".replace("validate", "validation"), 0)])
    with pytest.raises(KeyboardInterrupt, match=r"^stopped by SIGINT$"):
        getattr(trainer, call)(model(), data)


class Fails(Callback):
    """Fails once, in the second epoch."""

    has_failed = False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 40 and not self.has_failed:
            self.has_failed = True
            raise ZeroDivisionError


def test_a_training_that_failed_goes_on_from_its_last_epoch(data: MNISTDataModule) -> None:
    seen: list[int] = []

    class Seen(Callback):
        def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
            seen.append(trainer.current_epoch)

    for callbacks in [Fails(), Seen()], []:
        trainer, trained = make_trainer(max_epochs=3, callbacks=callbacks, **SHORT), model()
        if callbacks:
            with pytest.raises(ZeroDivisionError):
                trainer.fit(trained, data)
        trainer.fit(trained, data)
    assert seen == [0, 1, 1, 2]
    assert_same_run(run_dir(0), run_dir(1))


def test_a_finished_one_cycle_is_not_started_again(data: MNISTDataModule) -> None:
    trainer, trained = make_trainer(max_epochs=2, **SHORT), model()
    trainer.fit(trained, data)
    trainer.fit_loop.max_epochs = 4
    with pytest.raises(ValueError, match=r"one_cycle.* 120 steps, 0 .*, 60 of them done.*constant schedule"):
        trainer.fit(trained, data)
    assert load_whole(run_dir() / "checkpoints/last.ckpt")["global_step"] == 60


def test_a_learning_rate_finder_may_make_the_network_diverge(data: MNISTDataModule) -> None:
    finder = LearningRateFinder(min_lr=1e-3, max_lr=1e6, early_stop_threshold=None)
    make_trainer(max_epochs=1, callbacks=[finder], **SHORT).fit(model(), data)
    assert load_whole(run_dir() / "checkpoints/last.ckpt")["global_step"] == 30


@pytest.mark.parametrize("val_size", [5000, 0])
def test_a_run_in_other_processes_returns_its_paths(data_dir: Path, val_size: int) -> None:
    options = {"strategy": "ddp_fork", "devices": 2, "accelerator": "cpu"}
    trainer = make_trainer(max_epochs=1, limit_val_batches=2 if val_size else 0, limit_train_batches=10, **options)
    trainer.fit(model(), MNISTDataModule(data_dir, val_size=val_size))
    run = trainer.checkpoint_callback
    assert isinstance(run, RunCheckpoint)
    assert Path(run.last_model_path).resolve() == (run_dir() / "checkpoints/last.ckpt").resolve()
    best = "best" if val_size else "last"
    assert Path(run.best_model_path).resolve() == (run_dir() / f"checkpoints/{best}.ckpt").resolve()


def test_a_trainer_made_by_hand_writes_whole_files_into_the_folder_of_its_logger(
    data: MNISTDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    replace = Path.replace

    def note(self: Path, target: Path) -> Path:
        written.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", note)
    for logger in True, CSVLogger("."), False:
        by_hand(max_epochs=1, logger=logger, callbacks=[RunCheckpoint()], **SHORT).fit(model(), data)
    assert written == ["best.ckpt", "last.ckpt"] * 3
    assert sorted(path.name for path in Path("lightning_logs").iterdir()) == ["version_0", "version_1", "version_2"]


def test_a_training_in_another_thread_works_without_signals(data: MNISTDataModule) -> None:
    thread = threading.Thread(target=lambda: make_trainer(max_epochs=1, **SHORT).fit(model(), data))
    thread.start()
    thread.join()
    assert (run_dir() / "checkpoints/last.ckpt").exists()


def test_a_trainer_does_not_keep_the_folder_of_a_fit_that_was_refused(data: MNISTDataModule) -> None:
    make_trainer(max_epochs=1, **SHORT).fit(model(), data)
    before = (run_dir() / "checkpoints/last.ckpt").read_bytes()
    trainer = make_trainer(max_epochs=2, **SHORT)
    with pytest.raises(ValueError, match="one_cycle"):
        trainer.fit(model(), data, ckpt_path="last")
    trainer.fit(model(seed=1, schedule="constant"), data)
    assert (run_dir() / "checkpoints/last.ckpt").read_bytes() == before
    assert load_whole(run_dir(1) / "checkpoints/last.ckpt")["global_step"] == 60
    assert [step for step, _ in curves(run_dir(1))["train_loss"]] == [29, 59]  # the curves are there, too


class Refuses(Callback):
    """Fails before the first step."""

    is_on = False

    def on_train_start(self, *_: Any) -> None:
        if self.is_on:
            raise ZeroDivisionError


def test_trainings_that_fail_at_their_start_neither_leave_nor_remove_folders(data: MNISTDataModule) -> None:
    refuses = Refuses()
    trainer = make_trainer(max_epochs=1, callbacks=[refuses], **SHORT)
    trainer.fit(model(), data)
    kept = {path: path.read_bytes() for path in run_dir().rglob("*.ckpt")}
    refuses.is_on = True
    trainer.fit_loop.max_epochs = 2
    for seed in 1, 2:
        with pytest.raises(ZeroDivisionError):
            trainer.fit(model(seed=seed, schedule="constant"), data)
    assert kept == {path: path.read_bytes() for path in Path("lightning_logs").rglob("*.ckpt")}
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["version_0"]


def test_a_model_does_not_replace_the_checkpoints_of_another(data: MNISTDataModule) -> None:
    shared = RunCheckpoint()
    trainer = make_trainer(max_epochs=1, callbacks=[shared], **SHORT)
    trainer.fit(model(), data)
    before = (run_dir() / "checkpoints/best.ckpt").read_bytes()
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model(seed=1, schedule="constant"), data)
    make_trainer(max_epochs=1, callbacks=[shared], **SHORT).fit(model(seed=2, lr=1e-4), data)
    assert (run_dir() / "checkpoints/best.ckpt").read_bytes() == before
    for number in 1, 2:
        accuracies = [value for _, value in curves(run_dir(number))["val_acc"]]
        score = load_whole(run_dir(number) / "checkpoints/best.ckpt")["callbacks"]["RunCheckpoint"]["best_model_score"]
        assert float(score) == pytest.approx(max(accuracies))


@pytest.mark.parametrize("options", [{}, {"enable_progress_bar": False}])
@pytest.mark.parametrize("make", [Trainer, make_trainer])
def test_lines_for_the_epochs_take_the_place_of_a_bar(
    data: MNISTDataModule, capsys: pytest.CaptureFixture[str], make: Any, options: dict[str, Any]
) -> None:
    make(max_epochs=2, callbacks=[EpochLines()], **options, **SHORT, enable_model_summary=False).fit(model(), data)
    output = capsys.readouterr().out
    assert len(output.splitlines()) == 2
    for number, line in enumerate(output.splitlines(), start=1):
        assert re.fullmatch(rf"Epoch {number}: \[30/30\], Loss: [\d.]+, Validation accuracy: [\d.]+ %", line)


def test_a_trainer_that_saved_nothing_does_not_test_the_network_of_another_run(data: MNISTDataModule) -> None:
    make_trainer(max_epochs=1, **SHORT).fit(model(), data)
    trainer, trained = make_trainer(max_epochs=1, enable_checkpointing=False, **SHORT), model(seed=1)
    trainer.fit(trained, data)
    with pytest.raises(ValueError, match="this Trainer has saved no checkpoint"):
        trainer.test(trained, data, ckpt_path="best")


class OwnCycle(MNISTClassifier):
    """Has a one-cycle with another rate than the hyperparameter."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def test_a_users_schedule_is_continued(data: MNISTDataModule) -> None:
    for callbacks in [Sends("on_train_batch_end", 45)], []:
        trainer = make_trainer(max_epochs=2, callbacks=callbacks, **SHORT)
        seed_everything(0, verbose=False)
        trained = OwnCycle()
        if callbacks:
            with pytest.raises(RunInterruptedError, match="stopped by SIGINT"):
                trainer.fit(trained, data)
        trainer.fit(trained, data)
    one, two = (load_whole(run_dir(number) / "checkpoints/last.ckpt")["state_dict"] for number in (0, 1))
    assert same(one, two)


def by_hand_with_checkpoints(**options: Any) -> Trainer:
    options["callbacks"] = [*options["callbacks"], RunCheckpoint("val/acc")]
    return by_hand(**options, accelerator="cpu")


@pytest.mark.parametrize("make", [make_trainer, by_hand_with_checkpoints])
@pytest.mark.parametrize(
    ("schedule", "workers", "own_generator"),
    [("none", 0, False), ("one cycle", 2, False), ("plateau", 0, True)],
)
def test_a_run_of_ones_own_continues_exactly_in_any_trainer(
    data_dir: Path, make: Any, schedule: Any, workers: int, own_generator: bool
) -> None:
    def train(root: str, seed: int, kills: bool = False, checkpoint: str | None = None) -> None:
        seed_everything(seed, verbose=False)
        generator = torch.Generator().manual_seed(5) if own_generator else None
        callbacks: list[Callback] = [BackboneLikeState(), *([Fails()] if kills else [])]
        if make is make_trainer:
            callbacks.append(RunCheckpoint("val/acc"))
        trainer = make(max_epochs=5, default_root_dir=root, log_every_n_steps=5, callbacks=callbacks)
        with pytest.raises(ZeroDivisionError) if kills else nullcontext():
            trainer.fit(OwnCNN(schedule), *own_loaders(data_dir, workers, generator), ckpt_path=checkpoint)

    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    train("whole", 0)
    train("killed", 0, kills=True)
    assert load_whole(Path("killed", last))["global_step"] == 36
    train("killed", 99, checkpoint=f"killed/{last}")
    whole, killed = (Path(root, "lightning_logs/version_0") for root in ("whole", "killed"))
    if make is make_trainer:
        assert_same_run(whole, killed)
    else:  # Lightning's logger writes the curves of each fit into another folder
        for name in "best", "last":
            one, two = (load_whole(run / f"checkpoints/{name}.ckpt") for run in (whole, killed))
            assert all(same(one[key], two[key]) for key in one.keys() - {"loops"})


class BackboneLikeState(Callback):
    """Draws random numbers and changes its state when an epoch starts, as BackboneFinetuning does."""

    factor = 1.0

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self.factor *= 0.5 + float(torch.rand(()))

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.factor = state_dict["factor"]


def test_a_metric_that_is_not_logged_is_named_once_with_those_that_are(data_dir: Path) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")  # as in a user's program
        make_trainer(max_epochs=3).fit(OwnCNN(), *own_loaders(data_dir))
    (message,) = [str(each.message) for each in warned if "is not logged" in str(each.message)]
    assert re.search(r"val_acc is not logged, only .*train/loss.*, val/acc", message)
    assert [path.name for path in run_dir().rglob("*.ckpt")] == ["last.ckpt"]


def test_a_validation_before_the_last_step_decides_no_best_epoch(data: MNISTDataModule) -> None:
    with pytest.warns(UserWarning, match="the last validation of an epoch comes before its last step"):
        make_trainer(max_epochs=2, val_check_interval=20, **SHORT).fit(model(), data)
    assert [path.name for path in run_dir().rglob("*.ckpt")] == ["last.ckpt"]


@pytest.mark.parametrize(("monitor", "mode"), [("val_loss", "min"), ("train_acc", "min")])
def test_the_metric_that_decides_which_epoch_is_best_is_an_argument(
    data: MNISTDataModule, monitor: str, mode: Any
) -> None:
    limits = {**SHORT, "limit_val_batches": 0} if monitor == "train_acc" else SHORT
    trained = model(lr=1.5 if monitor == "val_loss" else 0.2, schedule="constant", upright=False)
    make_trainer(max_epochs=4, callbacks=[RunCheckpoint(monitor, mode)], **limits).fit(trained, data)
    values = [value for _, value in curves(run_dir())[monitor]]
    best = load_whole(run_dir() / "checkpoints/best.ckpt")
    assert best["epoch"] == values.index(min(values)) < 3


@pytest.mark.parametrize("is_named_loss", [True, False])
def test_an_own_loss_that_is_not_finite_stops_the_run(data_dir: Path, is_named_loss: bool) -> None:
    class Diverges(OwnCNN):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = torch.nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
            loss = loss * (float("nan") if self.current_epoch == 1 else 1)
            if is_named_loss:
                self.log("train/loss", loss)
            return loss

    trainer = make_trainer(max_epochs=3, callbacks=[RunCheckpoint("val/acc")])
    with pytest.raises(ValueError, match="diverged in epoch 2: its loss is infinite or not a number"):
        trainer.fit(Diverges(), *own_loaders(data_dir))
    for path in run_dir().rglob("*.ckpt"):
        assert load_whole(path)["epoch"] == 0


def test_training_metrics_reach_every_logger_with_their_epoch(data: MNISTDataModule) -> None:
    make_trainer(max_epochs=2, logger=CSVLogger("."), **SHORT).fit(model(), data)
    rows = list(csv.DictReader((run_dir() / "metrics.csv").open()))
    assert [row["epoch"] for row in rows if row["train_loss"]] == ["0", "1"]
    assert all(row["train_acc"] for row in rows if row["train_loss"])


def test_the_checkpoint_of_another_callback_continues_with_a_warning(data_dir: Path) -> None:
    by_hand(max_epochs=1, accelerator="cpu").fit(OwnCNN(), *own_loaders(data_dir))
    (path,) = run_dir().rglob("*.ckpt")
    with pytest.warns(UserWarning, match="not saved by RunCheckpoint: the run may not continue exactly"):
        make_trainer(max_epochs=2, callbacks=[RunCheckpoint("val/acc")]).fit(
            OwnCNN(), *own_loaders(data_dir), ckpt_path=path
        )


def test_a_users_checkpoint_callback_does_not_decide_what_best_is(data: MNISTDataModule) -> None:
    own = ModelCheckpoint("elsewhere", monitor="val_loss")
    trainer, trained = make_trainer(max_epochs=1, callbacks=[own], **SHORT), model()
    trainer.fit(trained, data)
    run = trainer.checkpoint_callback
    assert isinstance(run, RunCheckpoint)
    assert Path(run.best_model_path) == (run_dir() / "checkpoints/best.ckpt").resolve()
    trainer.test(trained, data, ckpt_path="best", verbose=False)
    assert trainer.ckpt_path == run.best_model_path


def test_the_cell_that_draws_the_curves_has_the_learning_rate(data: MNISTDataModule) -> None:
    make_trainer(max_epochs=1, **SHORT).fit(model(), data)
    assert "lr" in curves(run_dir())


def test_hparams_are_plain_yaml(data: MNISTDataModule) -> None:
    make_trainer(max_epochs=1, **SHORT).fit(model(), data)
    hparams = yaml.safe_load((run_dir() / "hparams.yaml").read_text())
    assert (hparams["hidden_sizes"], hparams["batch_size"]) == ([128, 64], 100)


def test_without_validation_images_nothing_is_validated_and_nothing_warned(data_dir: Path) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        make_trainer(max_epochs=1, limit_train_batches=30).fit(model(), MNISTDataModule(data_dir, val_size=0))
    assert not [each for each in warned if "across ranks" in str(each.message) or "best.ckpt" in str(each.message)]
    assert [path.name for path in run_dir().rglob("*.ckpt")] == ["last.ckpt"]


class WithoutOptimizer(OwnCNN):
    """Steps an optimiser that Lightning does not know: its count of steps stays 0."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.own = torch.optim.SGD(self.parameters(), 0.1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.own.zero_grad()
        loss = super().training_step(batch, batch_idx)
        loss.backward()
        self.own.step()
        return loss

    def configure_optimizers(self) -> None:
        return None


class FailsInEpoch(Callback):
    """Fails once, in an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.epoch:
            self.epoch = -1
            raise ZeroDivisionError


def test_a_module_that_steps_its_own_optimiser_continues_exactly(data_dir: Path) -> None:
    ends = []
    for fails in [FailsInEpoch(2)], []:
        seed_everything(0, verbose=False)
        trainer = make_trainer(max_epochs=4, callbacks=[RunCheckpoint("val/acc"), *fails])
        trained, loaders = WithoutOptimizer(), own_loaders(data_dir)
        if fails:
            with pytest.raises(ZeroDivisionError):
                trainer.fit(trained, *loaders)
        trainer.fit(trained, *loaders)
        ends.append(dict(trained.state_dict()))
    assert same(*ends)
    trainer = make_trainer(max_epochs=1, enable_checkpointing=False)
    trainer.fit(WithoutOptimizer(), *own_loaders(data_dir))
    assert "train/loss_epoch" in curves(run_dir(2))  # a finished training is kept


class Scores(OwnCNN):
    """Has the validation scores that it is given."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.scores = scores

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/acc", self.scores[self.current_epoch])


def test_a_run_that_would_stop_after_its_fewest_epochs_still_does(data_dir: Path) -> None:
    epochs = []
    for fails in [FailsInEpoch(3)], []:
        stopping = EarlyStopping("val/acc", patience=1, mode="min")
        options: dict[str, Any] = {"max_epochs": 8, "min_epochs": 5, "callbacks": [stopping, *fails]}
        trainer, trained = make_trainer(**options), Scores(5, 6, 7, 4, 3, 2, 1, 0)
        if fails:
            with pytest.raises(ZeroDivisionError):
                trainer.fit(trained, *own_loaders(data_dir))
        trainer.fit(trained, *own_loaders(data_dir))
        epochs.append(trainer.current_epoch)
    assert epochs == [5, 5]


def test_a_schedule_that_needs_an_older_validation_continues(data_dir: Path) -> None:
    ends = []
    for fails in [FailsInEpoch(2)], []:
        seed_everything(0, verbose=False)
        callbacks = [RunCheckpoint("val/acc"), *fails]
        trainer, trained = make_trainer(max_epochs=4, check_val_every_n_epoch=2, callbacks=callbacks), OwnCNN("plateau")
        loaders = own_loaders(data_dir)
        if fails:
            with pytest.raises(ZeroDivisionError):
                trainer.fit(trained, *loaders)
        trainer.fit(trained, *loaders)
        ends.append(dict(trained.state_dict()))
    assert same(*ends)


def test_the_best_epoch_is_known_whatever_the_loggers_folder_is_called(data_dir: Path) -> None:
    options: dict[str, Any] = {"max_epochs": 3, "accelerator": "cpu"}
    trainer = by_hand(logger=CSVLogger("logs", "cnn"), callbacks=[RunCheckpoint("val/acc"), FailsInEpoch(1)], **options)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(Scores(0.9, 0.2, 0.3), *own_loaders(data_dir))
    checkpoints = Path("logs/cnn/version_0/checkpoints")
    run = RunCheckpoint("val/acc")
    trainer = by_hand(logger=CSVLogger("logs", "cnn"), callbacks=[run], **options)
    trainer.fit(Scores(0.9, 0.2, 0.3), *own_loaders(data_dir), ckpt_path=checkpoints / "last.ckpt")
    assert float(run.best_model_score or 0) == pytest.approx(0.9)
    assert load_whole(checkpoints / "best.ckpt")["epoch"] == 0
    assert load_whole(checkpoints / "last.ckpt")["epoch"] == 2


def test_the_folder_of_runs_may_be_a_link(data: MNISTDataModule) -> None:
    Path("disk").mkdir()
    Path("lightning_logs").symlink_to("disk")
    make_trainer(max_epochs=1, **SHORT).fit(model(schedule="constant"), data)
    make_trainer(max_epochs=2, **SHORT).fit(model(schedule="constant"), data, ckpt_path="last")
    assert [path.name for path in Path("disk").iterdir()] == ["version_0"]
    assert [step for step, _ in curves(run_dir())["train_loss"]] == [29, 59]


def test_a_cell_with_several_processes_continues_when_it_is_run_again(data: MNISTDataModule) -> None:
    options = {"strategy": "ddp_fork", "devices": 2, "accelerator": "cpu"}
    fails = FailsInEpoch(1)
    trainer, trained = make_trainer(max_epochs=2, callbacks=[fails], **options, **SHORT), model()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        trainer.fit(trained, data)
    fails.epoch = -1  # the defect is corrected
    trainer.fit(trained, data)
    assert load_whole(run_dir() / "checkpoints/last.ckpt")["global_step"] == 60


def test_sigterm_after_the_last_batch_is_not_lost(data: MNISTDataModule) -> None:
    class Terminates(Callback):
        def on_train_end(self, *_: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer = make_trainer(max_epochs=1, callbacks=[Terminates()], **SHORT)
    with pytest.raises(RunInterruptedError, match=r"stopped by SIGTERM; saved .*last\.ckpt") as stopped:
        trainer.fit(model(), data)
    assert str(pickle.loads(pickle.dumps(stopped.value))) == str(stopped.value)


def test_other_modules_have_lines_with_their_own_metrics(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_trainer(max_epochs=1, logger=False, callbacks=[RunCheckpoint("val/acc")]).fit(OwnCNN(), *own_loaders(data_dir))
    assert re.search(r"^Epoch 1: \[12/12\], .*train/loss: [\d.]+.*val/acc: [\d.]+", capsys.readouterr().out)


def test_a_loss_is_recognized_by_its_name(data_dir: Path) -> None:
    class Lossless(OwnCNN):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("lossless_psnr", float("inf"))
            self.log("val_loss", float(self.current_epoch))

    trainer = make_trainer(max_epochs=2, callbacks=[RunCheckpoint("val_loss")])
    trainer.fit(Lossless(), *own_loaders(data_dir))  # infinite, but no loss
    assert load_whole(run_dir() / "checkpoints/best.ckpt")["epoch"] == 0  # the least


def test_a_list_of_callbacks_stays_the_users(data: MNISTDataModule) -> None:
    mine: list[Callback] = []
    for _ in range(2):
        make_trainer(max_epochs=1, callbacks=mine, max_time="00:01:00:00", **SHORT).fit(model(), data)
    assert mine == []
