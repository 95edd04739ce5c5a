"""Lightning's own options, as its users try them."""

import csv
import logging
import re
from pathlib import Path

import pytest
import torch
from conftest import CLI, assert_one_sentence, same, slow
from lightning.pytorch import Callback, Trainer

QUICK = ("fit", "--trainer.max_epochs=2", "--trainer.limit_train_batches=20", "--trainer.limit_val_batches=5")
CONSTANT = "--model.schedule=constant"
RUN = Path("lightning_logs/version_0")


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Capture the messages of Lightning's loggers that pass the filters of the command line."""
    for name in "lightning.pytorch", "lightning.fabric":
        monkeypatch.setattr(logging.getLogger(name), "handlers", [caplog.handler])
        monkeypatch.setattr(logging.getLogger(name), "propagate", False)
    return caplog


@pytest.mark.parametrize("precision", ["bf16-true", *map(slow, ("64-true", "32-true", "16-true", "bf16-mixed"))])
def test_training_test_and_prediction_work_in_every_precision(cli: CLI, precision: str) -> None:
    option = f"--trainer.precision={precision}"
    assert cli(*QUICK, option).status == 0
    accuracies = []
    for options in (), (option,):
        tested = cli("test", *options)
        assert (tested.status, tested.err) == (0, f"Checkpoint: {RUN}/checkpoints/best.ckpt\n")
        accuracies.append(float(tested.out.split()[-4]))
        predicted = cli("predict", "--trainer.limit_predict_batches=1", *options)
        assert predicted.status == 0
        rows = list(csv.DictReader(predicted.out.splitlines()))
        assert sum(float(rows[0][f"p{digit}"]) for digit in range(10)) == pytest.approx(1, abs=0.02)
    assert accuracies[0] > 50
    assert accuracies[0] == pytest.approx(accuracies[1], abs=1)


# The callbacks that change a run most, with options
CALLBACKS = {
    "BatchSizeFinder": ["--trainer.callbacks.steps_per_trial=1", "--trainer.callbacks.max_trials=4"],
    "EarlyStopping": ["--trainer.callbacks.monitor=val_loss"],
    "EMAWeightAveraging": ["--trainer.callbacks.decay=0.9"],
    "GradientAccumulationScheduler": ["--trainer.callbacks.scheduling={0: 2}"],
}


def assert_the_config_repeats_the_run(cli: CLI) -> None:
    assert cli("fit", f"--config={RUN}/config.yaml").status == 0
    assert same(*(torch.load(RUN.with_name(f"version_{n}") / "checkpoints/last.ckpt")["state_dict"] for n in (0, 1)))


@pytest.mark.parametrize("name", CALLBACKS)
def test_the_config_of_a_run_with_any_callback_repeats_the_run(cli: CLI, name: str) -> None:
    assert cli(*QUICK, f"--trainer.callbacks+={name}", *CALLBACKS[name]).status == 0
    assert_the_config_repeats_the_run(cli)


def test_messages_requested_from_lightning_are_printed(cli: CLI, messages: pytest.LogCaptureFixture) -> None:
    stopping = ("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_loss")
    assert cli(*QUICK, *stopping, "--trainer.callbacks.verbose=true", "--trainer.profiler=simple").status == 0
    assert "Metric val_loss improved" in messages.text
    assert "FIT Profiler Report" in messages.text
    messages.clear()
    assert cli(*QUICK).status == 0
    assert messages.text == ""  # no messages about devices, seeds and other packages


def test_a_learning_rate_that_lightning_finds_is_used_and_printed(
    cli: CLI, messages: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    assert cli(*QUICK, "--trainer.callbacks+=LearningRateFinder", "--trainer.callbacks.min_lr=0.001").status == 0
    (found,) = re.findall(r"Learning rate set to ([\d.e-]+)", messages.text)
    last = torch.load(RUN / "checkpoints" / "last.ckpt")
    assert last["hyper_parameters"]["lr"] == float(found) != 0.2
    assert f"\nlr: {found}\n" in (RUN / "hparams.yaml").read_text()
    assert f"\n  lr: {found}\n" in (RUN / "config.yaml").read_text()
    assert last["optimizer_states"][0]["param_groups"][0]["max_lr"] == float(found)  # the one-cycle's peak
    assert not list(tmp_path.glob(".lr_find*"))
    assert_the_config_repeats_the_run(cli)


def test_a_run_with_any_logger_has_a_folder_that_test_finds(cli: CLI) -> None:
    csv_logger = ("--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs", "--trainer.logger.name=digits")
    for number, logger in enumerate([(), csv_logger, ("--trainer.logger=false",)]):
        run = RUN.with_name(f"version_{number}")
        assert f"Run: {run}\n" in cli(*QUICK, CONSTANT, *logger).out
        assert (run / "config.yaml").exists()
        tested = cli("test", "--trainer.limit_test_batches=1", "--trainer.logger=false")
        assert tested.err == f"Checkpoint: {run}/checkpoints/best.ckpt\n"
        continued = cli("fit", "--config", run / "config.yaml", "--ckpt_path=last", "--trainer.max_epochs=3")
        assert f"Run: {run}\n" in continued.out
        assert torch.load(run / "checkpoints/last.ckpt")["epoch"] == 2
    assert sorted(path.name for path in Path().iterdir()) == ["lightning_logs", "logs"]


def test_a_run_is_not_overwritten_by_another(cli: CLI, tmp_path: Path) -> None:
    logger = ("--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=.", "--trainer.logger.version=0")
    assert f"Run: {RUN}\n" in cli(*QUICK, CONSTANT, *logger).out
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and "tfevents" not in path.name]
    before = [path.read_bytes() for path in kept]
    again = cli(*QUICK, CONSTANT, *logger, "--model.lr=0.1")
    assert_one_sentence(again, str(RUN), "another run", "ckpt_path")
    assert [path.read_bytes() for path in kept] == before


def test_a_run_ends_with_an_epoch_when_its_time_is_used_up(cli: CLI, messages: pytest.LogCaptureFixture) -> None:
    command = (*QUICK, CONSTANT, "--trainer.max_epochs=1000", "--trainer.max_time=00:00:00:01")
    assert cli(*command).status == 0
    assert "Time limit reached" in messages.text
    assert torch.load(RUN / "checkpoints/last.ckpt")["global_step"] % 20 == 0
    assert_one_sentence(cli(*command, "--ckpt_path=last"), "nothing to train", "--trainer.max_time")


def test_a_diverging_run_stops_and_keeps_its_earlier_checkpoints(cli: CLI) -> None:
    for options, epoch in (["--model.lr=100000", CONSTANT], 1), (["--model.lr=200"], 2):
        result = cli("fit", "--trainer.max_epochs=2", "--trainer.limit_train_batches=30", *options)
        assert result.status == 1
        lr = options[0].removeprefix("--model.lr=")
        assert re.fullmatch(
            rf"error: the training diverged in epoch {epoch} with lr {lr}.0: its weights are infinite or not numbers; "
            "try a lower learning rate\n",
            result.err,
        )
        assert "Next:" not in result.out
        for path in RUN.glob("checkpoints/*.ckpt"):
            weights = torch.load(path)["state_dict"]
            assert all(weight.isfinite().all() for weight in weights.values()), path
        RUN.rename(f"with lr {lr}")


def test_a_fast_dev_run_keeps_no_files_and_prints_a_message(cli: CLI, tmp_path: Path) -> None:
    assert cli("fit", "--trainer.fast_dev_run=true").out.endswith("Nothing of this fast_dev_run was kept\n")
    assert list(tmp_path.iterdir()) == []


class Slip(Callback):
    def on_train_start(self, trainer: Trainer, *_: object) -> None:
        raise ValueError("a slip of the programmer")


def test_a_defect_keeps_its_traceback(cli: CLI) -> None:
    with pytest.raises(ValueError, match="a slip of the programmer"):
        cli(*QUICK, "--trainer.callbacks+=test_lightning_options.Slip")
