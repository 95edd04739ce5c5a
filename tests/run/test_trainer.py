"""``make_trainer`` and Trainers made by hand: one call after another, as in a notebook."""

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
from conftest import assert_same_run, curves, same, slow
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from own import OwnCNN, own_loaders

from mnist_lit import MNISTClassifier, MNISTDataModule, RunCheckpoint, RunInterruptedError, make_trainer
from mnist_lit.checkpoints import PRETRAINED, load_whole
from mnist_lit.run.folder import make_run_dir

pytestmark = pytest.mark.usefixtures("_without_pictures")
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
    def __init__(self, hook: str, step: int) -> None:
        self.step: int | None = step
        setattr(self, hook, self.send)

    def send(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.step = None
            os.kill(os.getpid(), signal.SIGINT)


def test_a_trainer_trains_like_the_command_and_restores_what_it_changes(data: MNISTDataModule, cli: Any) -> None:
    threads, handlers, filters = torch.get_num_threads(), [*map(signal.getsignal, SIGNALS)], [*warnings.filters]
    seen: list[int] = []
    sees = LambdaCallback(on_train_start=lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        make_trainer(max_epochs=2, callbacks=[sees], **SHORT).fit(model(), data)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(threads)
    assert [*warnings.filters] == filters
    assert [*map(signal.getsignal, SIGNALS)] == handlers
    assert not any(handler.filters for handler in logging.getLogger("lightning.pytorch").handlers)

    options = [f"--trainer.{name}={value}" for name, value in SHORT.items()]
    assert cli("fit", "--trainer.max_epochs=2", *options).status == 0
    ours = {tag: points for tag, points in curves(run_dir(1)).items() if tag in curves(run_dir(0))}
    assert curves(run_dir(0)) == ours
    assert {"train_loss", "train_acc", "val_loss", "val_acc", "lr"} <= ours.keys()
    one, two = (load_whole(run_dir(number) / "checkpoints/last.ckpt") for number in (0, 1))
    assert same(one["state_dict"], two["state_dict"])
    assert make_trainer().max_epochs == make_trainer(max_steps=-1).max_epochs == 10
    assert make_trainer(check_val_every_n_epoch=None, val_check_interval=8).check_val_every_n_epoch is None


def test_best_and_last_are_names_of_checkpoints(data: MNISTDataModule) -> None:
    # A callback of one's own does not decide what is best.
    trainer = make_trainer(max_epochs=1, callbacks=[ModelCheckpoint("elsewhere", monitor="val_loss")], **SHORT)
    with pytest.raises(ValueError, match="no checkpoint in lightning_logs"):
        trainer.test(model(), data, ckpt_path="last")
    trainer.validate(trained := model(), data, verbose=False)
    trainer.fit(trained, data)
    best, last = (run_dir() / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert isinstance(trainer.checkpoint_callback, RunCheckpoint)
    assert Path(trainer.checkpoint_callback.best_model_path) == best.resolve()
    for name, file in {"best": best, "last": last, str(run_dir()): best, "pretrained": PRETRAINED}.items():
        for tester in trainer, make_trainer(logger=False):
            other = model(seed=1, activation="silu" if name == "pretrained" else "relu")
            tester.test(other, data, ckpt_path=name, verbose=False)
            assert same(dict(other.state_dict()), load_whole(file)["state_dict"])
    tester = make_trainer(limit_val_batches=1, limit_test_batches=1)
    for name in "validate", "test":
        getattr(tester, name)(model(), data, ckpt_path=run_dir(), verbose=False)
        assert (run_dir() / name / "version_0").is_dir()  # where the command logs, too

    trainer, trained = make_trainer(max_epochs=1, enable_checkpointing=False, **SHORT), model(seed=1)
    trainer.fit(trained, data)
    with pytest.raises(ValueError, match="this Trainer has saved no checkpoint"):
        trainer.test(trained, data, ckpt_path="best")  # not the other run's


@pytest.mark.parametrize("call", ["test", "validate", "predict"])
def test_ctrl_c_is_a_keyboard_interrupt_whatever_runs(data: MNISTDataModule, call: str) -> None:
    trainer = make_trainer(logger=False, callbacks=[Sends(f"on_{call}_batch_end".replace("validate", "validation"), 0)])
    with pytest.raises(KeyboardInterrupt, match=r"^stopped by SIGINT$"):
        getattr(trainer, call)(model(), data)


def test_a_training_in_another_thread_works_without_signals(data: MNISTDataModule) -> None:
    thread = threading.Thread(target=lambda: make_trainer(max_epochs=1, **SHORT).fit(model(), data))
    thread.start()
    thread.join()
    assert (run_dir() / "checkpoints/last.ckpt").exists()


def test_runs_that_fail_at_their_start_neither_leave_nor_remove_folders(data: MNISTDataModule) -> None:
    divisor = 1
    fails = LambdaCallback(on_train_start=lambda *_: 1 // divisor)
    trainer, trained = make_trainer(max_epochs=1, callbacks=[fails], **SHORT), model()
    trainer.fit(trained, data)
    kept = {path: path.read_bytes() for path in run_dir().rglob("*.ckpt")}
    trainer.fit_loop.max_epochs = 2
    with pytest.raises(ValueError, match=r"one_cycle.* 60 steps, 0 .*, 30 of them done.*constant schedule"):
        trainer.fit(trained, data)
    divisor = 0
    for seed in 1, 2:
        with pytest.raises(ZeroDivisionError):
            trainer.fit(model(seed=seed, schedule="constant"), data)
    trained.hparams["path"] = Path()
    with pytest.raises(ValueError, match=r"these hyperparameters cannot be saved.*pathlib"):
        make_trainer(**SHORT).fit(trained, data)
    for other in ModelCheckpoint(filename="best"), ModelCheckpoint(save_last="link"):
        with pytest.raises(ValueError, match=r"would overwrite the run's best\.ckpt or last\.ckpt: give it a dirpath"):
            make_trainer(callbacks=[other], **SHORT).fit(model(), data)
    assert kept == {path: path.read_bytes() for path in Path("lightning_logs").rglob("*.ckpt")}
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["version_0"]


def test_the_runs_of_one_trainer_and_of_one_callback_do_not_mix(data: MNISTDataModule) -> None:
    shared = RunCheckpoint()
    trainer, trained = make_trainer(max_epochs=1, callbacks=[shared], **SHORT), model(seed=1, schedule="constant")
    trainer.fit(model(), data)
    before = (run_dir() / "checkpoints/best.ckpt").read_bytes()
    trainer.fit_loop.max_epochs = 2
    trainer.fit(trained, data)
    trainer.test(model(), data, ckpt_path=run_dir() / "checkpoints/best.ckpt", verbose=False)
    assert "version_1" in shared.best_model_path
    trainer.fit_loop.max_epochs = 3
    compiled: Any = torch.compile(trained, backend="eager")
    trainer.fit(compiled, data)  # goes on in its own folder
    make_trainer(max_epochs=1, callbacks=[shared], **SHORT).fit(model(seed=2, lr=1e-4), data)
    assert (run_dir() / "checkpoints/best.ckpt").read_bytes() == before
    assert load_whole(run_dir(1) / "checkpoints/last.ckpt")["epoch"] == 2
    for number in 1, 2:
        accuracies = [value for _, value in curves(run_dir(number))["val_acc"]]
        score = load_whole(run_dir(number) / "checkpoints/best.ckpt")["callbacks"]["RunCheckpoint"]["best_model_score"]
        assert float(score) == pytest.approx(max(accuracies))


class Fails(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.current_epoch == self.epoch and args[-1] == 5:
            self.epoch = -1
            raise ZeroDivisionError


class OwnCycle(MNISTClassifier):
    """Has a one-cycle with another rate than the hyperparameter."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


@pytest.mark.parametrize(
    ("make", "schedule", "workers", "own_generator"),
    [(make_trainer, "one cycle", 2, False), (by_hand, "plateau", 0, True)],
)
def test_a_run_of_ones_own_continues_exactly_in_any_trainer(
    data_dir: Path, make: Any, schedule: Any, workers: int, own_generator: bool
) -> None:
    def train(root: str, seed: int, kills: bool = False, checkpoint: str | None = None) -> None:
        seed_everything(seed, verbose=False)
        generator = torch.Generator().manual_seed(5) if own_generator else None
        callbacks = [Freezes(), *([Fails(3)] if kills else []), RunCheckpoint("val/acc")]
        options = {"max_epochs": 5, "log_every_n_steps": 5, "accelerator": "cpu"}
        trainer = make(default_root_dir=root, callbacks=callbacks, **options)
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


class Freezes(Callback):
    """Draws random numbers, changes its state and freezes layers when an epoch starts, as BackboneFinetuning does."""

    factor = 1.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.factor *= 0.5 + float(torch.rand(()))
        if trainer.current_epoch == 2:
            pl_module.layers[0].requires_grad_(False)
            pl_module.layers[1].eval()

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.factor = state_dict["factor"]


@pytest.mark.parametrize(
    ("make", "options", "names"),
    [(OwnCNN, {}, "train/loss.*, val/acc"), (MNISTClassifier, {"val_check_interval": 20}, "val_acc.*train_loss")],
)
def test_an_epoch_whose_end_has_no_score_is_not_the_best_and_one_warning_says_so(
    data_dir: Path, make: Any, options: dict[str, Any], names: str
) -> None:
    data = [MNISTDataModule(data_dir)] if make is MNISTClassifier else own_loaders(data_dir)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")  # as in a user's program
        make_trainer(**{"max_epochs": 3} | SHORT | options).fit(make(), *data)
    (message,) = [str(each.message) for each in warned if "is not logged" in str(each.message)]
    assert re.search(rf"val_acc is not logged after the last step of an epoch \(logged: .*{names}", message)
    assert "val_check_interval" in message
    assert [path.name for path in run_dir().rglob("*.ckpt")] == ["last.ckpt"]


@pytest.mark.parametrize(("monitor", "mode"), [("val_acc", "auto"), ("val_loss", "min"), ("train_acc", "min")])
def test_an_argument_decides_which_epoch_is_best(data: MNISTDataModule, monitor: str, mode: Any) -> None:
    limits = {**SHORT, "limit_val_batches": 0} if monitor == "train_acc" else SHORT
    # A learning rate at which validation gets worse again
    trained = model(lr=0.2 if monitor == "train_acc" else 1.5, schedule="constant", upright=False)
    make_trainer(max_epochs=4, callbacks=[RunCheckpoint(monitor, mode)], **limits).fit(trained, data)
    values = [value for _, value in curves(run_dir())[monitor]]
    best, last = (load_whole(run_dir() / f"checkpoints/{name}.ckpt") for name in ("best", "last"))
    assert best["epoch"] == values.index(max(values) if mode == "auto" else min(values)) < 3 == last["epoch"]


def test_a_resumed_run_keeps_its_momentum_and_learning_rate(data: MNISTDataModule) -> None:
    finder = LearningRateFinder(num_training_steps=20)
    with pytest.raises(ZeroDivisionError):
        make_trainer(callbacks=[finder, Fails(1)], max_epochs=2, **SHORT).fit(model(), data)
    begun: list[int] = []
    notes = LambdaCallback(on_train_epoch_start=lambda trainer, *_: begun.append(trainer.current_epoch))
    later = type("SearchesLater", (LearningRateFinder,), {"on_fit_start": Callback.on_fit_start})()  # in an epoch
    trainer = make_trainer(callbacks=[finder, notes, later], max_epochs=2, **SHORT)
    trainer.fit(model(lr=0.1), data, ckpt_path="last")
    assert (begun, later in trainer.callbacks) == ([1], True)
    assert curves(run_dir())["lr"][-1][1] < 1e-3


def test_the_checkpoint_of_another_callback_continues_with_a_warning(data_dir: Path) -> None:
    by_hand(max_epochs=1, accelerator="cpu").fit(OwnCNN(), *own_loaders(data_dir))
    (path,) = run_dir().rglob("*.ckpt")
    trainer = make_trainer(max_epochs=2, callbacks=[RunCheckpoint("val/acc")])
    with pytest.warns(UserWarning, match="not saved by RunCheckpoint: the run may not continue exactly"):
        trainer.fit(OwnCNN(), *own_loaders(data_dir), ckpt_path=path)


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


class Scores(OwnCNN):
    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.scores = scores

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/acc", self.scores[self.current_epoch])


KINDS: dict[str, Any] = {
    "one cycle": (MNISTClassifier, {}),
    "own cycle": (OwnCycle, {}),
    "own steps": (WithoutOptimizer, {}),
    "older validation": (lambda: OwnCNN("plateau"), {"check_val_every_n_epoch": 2}),
    "early stopping": (lambda: Scores(5, 6, 7, 4, 3, 2, 1, 0), {"max_epochs": 8, "min_epochs": 5}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_that_failed_goes_on_from_its_last_epoch_when_it_is_run_again(data_dir: Path, kind: str) -> None:
    make, options = KINDS[kind]
    ends = []
    step = {"one cycle": 120, "older validation": 48}.get(kind)
    stop: Callback = Sends("on_validation_start", step) if step else Fails(3)
    for stops in [stop], []:
        seed_everything(0, verbose=False)
        trained, begun = make(), list[int]()
        notes = LambdaCallback(
            on_train_epoch_start=lambda trainer, *_, begun=begun: begun.append(trainer.current_epoch)
        )
        is_ours = isinstance(trained, MNISTClassifier)
        data = [MNISTDataModule(data_dir)] if is_ours else own_loaders(data_dir)
        stopping = [EarlyStopping("val/acc", patience=1)] if kind == "early stopping" else []
        callbacks = [RunCheckpoint("val_acc" if is_ours else "val/acc"), *stopping, *stops, notes]
        trainer = make_trainer(**({"max_epochs": 4} | SHORT | {"callbacks": callbacks} | options))
        if stops:
            with pytest.raises(
                (ZeroDivisionError, RunInterruptedError), match=r"^$|stopped by SIGINT; saved .*last\.ckpt"
            ):
                trainer.fit(trained, *data)
            assert trained.training
        trainer.fit(trained, *data)
        count = 5 if stopping else 4
        assert begun == [0, 1, 2, *([3] if stops else []), *range(3, count)]
        ends.append(dict(trained.state_dict()))
    assert same(*ends)
    if is_ours:
        assert_same_run(run_dir(0), run_dir(1))
        one, two = (load_whole(run_dir(number) / "checkpoints/last.ckpt")["loops"]["fit_loop"] for number in (0, 1))
        assert one["epoch_progress"] == two["epoch_progress"]


@pytest.mark.parametrize("strategy", ["ddp_fork", slow("ddp_spawn")])
def test_several_processes_go_on_and_return_their_paths(data: MNISTDataModule, strategy: str) -> None:
    options = {"strategy": strategy, "devices": 2, "accelerator": "cpu"}
    fails = Fails(1)
    trainer, trained = make_trainer(max_epochs=2, callbacks=[fails], **options, **SHORT), model()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        trainer.fit(trained, data)
    fails.epoch = -1  # the defect is corrected
    trainer.fit(trained, data)
    run = trainer.checkpoint_callback
    assert isinstance(run, RunCheckpoint)
    for path, name in (run.best_model_path, "best.ckpt"), (run.last_model_path, "last.ckpt"):
        assert Path(path).resolve() == (run_dir() / "checkpoints" / name).resolve()
    assert load_whole(run_dir() / "checkpoints/last.ckpt")["global_step"] == 60


def test_the_best_epoch_is_known_whatever_the_loggers_folder_is_called(data_dir: Path) -> None:
    options: dict[str, Any] = {"max_epochs": 3, "accelerator": "cpu"}
    trainer = by_hand(logger=CSVLogger("logs", "cnn"), callbacks=[RunCheckpoint("val/acc"), Fails(1)], **options)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(Scores(0.9, 0.2, 0.3), *own_loaders(data_dir))
    checkpoints = Path("logs/cnn/version_0/checkpoints")
    run = RunCheckpoint("val/acc")
    trainer = by_hand(logger=CSVLogger("logs", "cnn"), callbacks=[run], **options)
    trainer.fit(Scores(0.9, 0.2, 0.3), *own_loaders(data_dir), ckpt_path=checkpoints / "last.ckpt")
    assert float(run.best_model_score or 0) == pytest.approx(0.9)
    assert load_whole(checkpoints / "best.ckpt")["epoch"] == 0
    assert load_whole(checkpoints / "last.ckpt")["epoch"] == 2


def test_sigterm_after_the_last_batch_is_not_lost(data: MNISTDataModule) -> None:
    terminates = LambdaCallback(on_train_end=lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    trainer = make_trainer(max_epochs=1, callbacks=[terminates], **SHORT)
    with pytest.raises(RunInterruptedError, match=r"stopped by SIGTERM; saved .*last\.ckpt") as stopped:
        trainer.fit(model(), data)
    assert str(pickle.loads(pickle.dumps(stopped.value))) == str(stopped.value)


def test_a_folder_that_another_run_makes_at_the_same_moment_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, others = Path.mkdir, iter([tmp_path / "lightning_logs" / "version_0"])

    def mkdir_too_late(self: Path, *args: Any, **options: Any) -> None:
        for other in others:  # once
            mkdir(other, parents=True)
        mkdir(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir_too_late)
    assert make_run_dir(tmp_path).name == "version_1"
