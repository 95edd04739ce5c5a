"""``make_trainer`` and Trainers made by hand: one call after another, as in a notebook."""

import errno
import fcntl
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import curves
from filelock import FileLock
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.loggers import CSVLogger
from test_checkpoint import assert_same_run, same

from mnist_lit import EpochLines, MNISTClassifier, MNISTDataModule, RandomDistortion, RunCheckpoint, make_trainer
from mnist_lit.files import PRETRAINED, load_whole

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
    assert (run_dir(0) / ".lock").exists()
    assert torch.get_num_threads() == 1


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
    assert_same_run(run_dir(0), run_dir(2))


@pytest.mark.parametrize("is_by_hand", [False, True])
@pytest.mark.parametrize(("hook", "step"), [("on_train_batch_end", 15), ("on_validation_start", 30)])
def test_an_interrupted_cell_continues_when_it_is_run_again(
    data: MNISTDataModule, is_by_hand: bool, hook: str, step: int
) -> None:
    for callbacks in [Sends(hook, step)], []:
        if is_by_hand:
            trainer = by_hand(max_epochs=3, callbacks=[RunCheckpoint(), *callbacks], **SHORT)
        else:
            trainer = make_trainer(max_epochs=3, callbacks=callbacks, **SHORT)
        trained = model()
        if callbacks:
            with pytest.raises(Exception, match=r"stopped by SIGINT; saved .*last\.ckpt"):
                trainer.fit(trained, data)
        trainer.fit(trained, data)
        assert trainer.current_epoch == 3
    one, two = (load_whole(run_dir(number) / "checkpoints/last.ckpt") for number in (0, 1))
    assert same(one["state_dict"], two["state_dict"])
    assert same(one["optimizer_states"], two["optimizer_states"])
    assert one["loops"]["fit_loop"]["epoch_progress"] == two["loops"]["fit_loop"]["epoch_progress"]


def test_after_an_interruption_another_model_starts_from_the_beginning(data: MNISTDataModule) -> None:
    trainer = make_trainer(max_epochs=1, callbacks=[Sends("on_train_batch_end", 15)], **SHORT)
    with pytest.raises(Exception, match="stopped by SIGINT"):
        trainer.fit(model(), data)
    other = model(seed=1)
    trainer.fit(other, data)
    reference = model(seed=1)
    make_trainer(max_epochs=1, **SHORT).fit(reference, data)
    assert same(dict(other.state_dict()), dict(reference.state_dict()))


class Fails(Callback):
    """Fails once, in the second epoch."""

    has_failed = False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 40 and not self.has_failed:
            self.has_failed = True
            raise ZeroDivisionError


def test_an_epoch_in_which_a_training_failed_is_counted_once(data: MNISTDataModule) -> None:
    trainer, trained = make_trainer(max_epochs=4, callbacks=[Fails()], **SHORT), model(schedule="constant")
    with pytest.raises(ZeroDivisionError):
        trainer.fit(trained, data)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(trained, data)
    seen: list[int] = []

    class Seen(Callback):
        def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
            seen.append(trainer.current_epoch)

    make_trainer(max_epochs=5, callbacks=[Seen()], **SHORT).fit(model(schedule="constant"), data, ckpt_path="last")
    assert seen == [3, 4]


def test_a_finished_one_cycle_is_not_started_again(data: MNISTDataModule) -> None:
    trainer, trained = make_trainer(max_epochs=2, **SHORT), model()
    trainer.fit(trained, data)
    trainer.fit_loop.max_epochs = 4
    with pytest.raises(ValueError, match=r"one_cycle.* 60 steps.* 120.*only a run with a constant schedule"):
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


def test_without_a_lock_service_a_run_trains_and_warns_once(
    data: MNISTDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    trainer, trained = make_trainer(max_epochs=1, **SHORT), model(schedule="constant")
    with pytest.warns(UserWarning, match="is not locked, since its file system has no locks") as warned:
        trainer.fit(trained, data)
    assert len([each for each in warned if "not locked" in str(each.message)]) == 1
    assert (run_dir() / "checkpoints/last.ckpt").exists()


def test_a_trainer_does_not_keep_the_folder_of_a_fit_that_was_refused(data: MNISTDataModule) -> None:
    make_trainer(max_epochs=1, **SHORT).fit(model(), data)
    before = (run_dir() / "checkpoints/last.ckpt").read_bytes()
    trainer = make_trainer(max_epochs=2, **SHORT)
    with FileLock(run_dir() / ".lock"), pytest.raises(ValueError, match="another training is writing"):
        trainer.fit(model(), data, ckpt_path="last")
    with pytest.raises(ValueError, match="one_cycle"):
        trainer.fit(model(), data, ckpt_path="last")
    trainer.fit(model(seed=1, schedule="constant"), data)
    assert (run_dir() / "checkpoints/last.ckpt").read_bytes() == before
    assert load_whole(run_dir(1) / "checkpoints/last.ckpt")["global_step"] == 60
    assert [step for step, _ in curves(run_dir(1))["train_loss"]] == [59]  # the curves are there, too


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
    for callbacks in [Sends("on_train_batch_end", 15)], []:
        trainer = make_trainer(max_epochs=2, callbacks=callbacks, **SHORT)
        seed_everything(0, verbose=False)
        trained = OwnCycle()
        if callbacks:
            with pytest.raises(Exception, match="stopped by SIGINT"):
                trainer.fit(trained, data)
        trainer.fit(trained, data)
    one, two = (load_whole(run_dir(number) / "checkpoints/last.ckpt")["state_dict"] for number in (0, 1))
    assert same(one, two)
