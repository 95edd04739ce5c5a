import os
import shutil
import signal
from pathlib import Path
from threading import Lock

import kill_and_continue
import pytest
import torch
from conftest import CLI, RUN, Stop, assert_one_sentence, assert_same_run, curves, largest_file, same, slow

from mnist_lit.checkpoint_io import AtomicCheckpointIO
from mnist_lit.checkpoints import load_whole

pytestmark = pytest.mark.usefixtures("_stop", "_without_pictures")
JOB = {"NTASKS": "1", "JOB_ID": "77", "NNODES": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "NODELIST": "vm",
       "JOB_NAME": "train"}  # fmt: skip
SHORT = ("fit", "--trainer.max_epochs=3", "--trainer.limit_train_batches=30", "--trainer.log_every_n_steps=7")


def folder(root: Path) -> Path:
    """Return the newest run's folder."""
    return max((root / "lightning_logs").glob("version_*"), key=lambda path: int(path.name.removeprefix("version_")))


# The kinds that differ most: averaged weights, accumulated gradients, an end within an epoch, no validation.
QUICK_KINDS = [kill_and_continue.KINDS[number] for number in (0, 1, 6, 9)]
SLOW_KINDS = [slow(kind) for kind in kill_and_continue.KINDS if kind not in QUICK_KINDS]


@pytest.mark.parametrize("options", [*QUICK_KINDS, *SLOW_KINDS], ids=" ".join)
def test_a_continued_run_equals_a_run_that_never_stopped(cli: CLI, tmp_path: Path, options: tuple[str, ...]) -> None:
    command = (*SHORT, *options)
    assert cli(*command).status == 0
    moments: list[tuple[int, signal.Signals | None, str]] = [(42, signal.SIGTERM, "last"), (75, None, "best")]
    for Stop.at, Stop.by, name in moments:
        Stop.begun = 0
        try:
            assert cli(*command).status == 143
        except ZeroDivisionError:
            assert Stop.by is None
        Stop.at = 0
        run = folder(tmp_path)
        if not (run / "checkpoints" / f"{name}.ckpt").exists():
            assert "--data.val_size=0" in options or any("interval" in option for option in options)
            continue
        continued = cli(*command, f"--ckpt_path={name}")
        assert (continued.status, continued.err) == (0, "")
        assert folder(tmp_path) == run
        assert_same_run(tmp_path / "lightning_logs" / "version_0", run)


@pytest.mark.parametrize(
    ("first", "then", "validation"),
    [
        ("max_epochs=2", "max_epochs=4", "check_val_every_n_epoch=2"),
        slow("max_steps=60", "max_steps=120", "check_val_every_n_epoch=2"),
        ("max_steps=60", "max_steps=120", "val_check_interval=0.5"),
    ],
)
def test_a_finished_run_can_be_extended(cli: CLI, tmp_path: Path, first: str, then: str, validation: str) -> None:
    command = ("fit", "--trainer.limit_train_batches=30", f"--trainer.{validation}", "--trainer.max_epochs=-1",
               "--model.schedule=constant", "--model.lr=0.05")  # fmt: skip
    assert cli(*command, f"--trainer.{then}").status == 0
    assert cli(*command, f"--trainer.{first}").status == 0
    whole, half = (tmp_path / "lightning_logs" / f"version_{number}" for number in (0, 1))
    shutil.copy(half / "checkpoints" / "best.ckpt", tmp_path / "copy.ckpt")
    shutil.copytree(half, moved := tmp_path / "kept" / "my run")
    for checkpoint, run in [
        ("lightning_logs/version_1/checkpoints/best.ckpt", half),
        (moved, moved),  # its last.ckpt
        ("copy.ckpt", half.with_name("version_2")),
    ]:
        continued = cli(*command, f"--trainer.{then}", f"--ckpt_path={checkpoint}")
        assert (continued.status, continued.err) == (0, "")
        assert [line[:7] for line in continued.out.splitlines()[:2]] == ["Epoch 3", "Epoch 4"]
        one, two = (torch.load(path / "checkpoints" / "last.ckpt") for path in (whole, run))
        assert one["global_step"] == two["global_step"] == 120
        for key in "state_dict", "optimizer_states", "callbacks":
            assert same(one[key], two[key]), key
        if checkpoint != "copy.ckpt":
            assert curves(run) == curves(whole)


def test_a_run_that_was_cut_within_an_epoch_can_be_tested_but_not_continued(cli: CLI) -> None:
    assert "The run ended within an epoch" in cli(*SHORT, "--trainer.max_steps=40").out
    assert torch.load("lightning_logs/version_0/checkpoints/last.ckpt")["global_step"] == 40
    assert cli("test", "--ckpt_path=last").status == 0
    assert_one_sentence(cli(*SHORT, "--ckpt_path=last"), "last.ckpt", "within an epoch", "not continued")


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(cli: CLI, tmp_path: Path, signum: signal.Signals, status: int) -> None:
    (tmp_path / "here").mkdir()
    os.chdir(tmp_path / "here")
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    Stop.at, Stop.by = 40, signum
    elsewhere = tmp_path / "elsewhere"
    stopped = cli(*SHORT, "--model.lr=0.1", f"--trainer.default_root_dir={elsewhere}")
    assert stopped.status == status
    assert handlers == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    message, command = stopped.err.splitlines()
    assert message == f"stopped by {signum.name}; saved ../elsewhere/lightning_logs/version_0/checkpoints/last.ckpt"
    last = load_whole(elsewhere / "lightning_logs/version_0/checkpoints/last.ckpt")
    assert last["global_step"] == 30  # the end of the epoch
    Stop.at = 0
    continued = cli(*command.removeprefix("Continue: python -m mnist_lit ").split())
    assert (continued.status, continued.err) == (0, "")
    assert continued.out.splitlines()[0].startswith("Epoch 2/3, Loss: ")
    assert "Run: ../elsewhere/lightning_logs/version_0\n" in continued.out


def test_a_refused_continuation_changes_nothing(cli: CLI, run: Path) -> None:
    kept = [path for path in sorted(run.rglob("*")) if path.is_file() and "tfevents" not in path.name]
    before, points = [path.read_bytes() for path in kept], curves(run)
    assert_one_sentence(cli(*RUN, "--trainer.max_epochs=3", "--ckpt_path=last"), "one_cycle", "120 steps", "180")
    assert_one_sentence(cli(*RUN, "--ckpt_path=last"), "nothing to train", "2 epochs")
    assert_one_sentence(cli("fit", "--trainer.max_epochs=1", "--ckpt_path=last"), "current_epoch=2", "max_epochs=1")
    assert_one_sentence(cli("fit", "--trainer.max_epochs=0"))
    assert list(run.parent.iterdir()) == [run]
    assert before == [path.read_bytes() for path in kept]
    assert points == curves(run)


def test_ctrl_c_in_the_first_epoch_says_that_nothing_was_saved(cli: CLI, tmp_path: Path) -> None:
    Stop.at, Stop.by = 3, signal.SIGINT
    stopped = cli(*SHORT)
    assert (stopped.status, stopped.err) == (130, "stopped by SIGINT; nothing was saved, since no epoch has ended\n")
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_job_of_slurm_receives_its_own_signal_and_is_stopped_without_being_requeued(
    cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    for name, value in JOB.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    received = []
    before = signal.signal(signal.SIGUSR1, lambda *_: received.append(1))
    try:
        Stop.at, Stop.by = 5, signal.SIGUSR1
        assert cli(*SHORT, "--trainer.max_epochs=1").status == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == [1]
    Stop.at, Stop.by, Stop.begun = 42, signal.SIGTERM, 0
    assert cli(*SHORT).status == 128 + signal.SIGTERM
    assert not (tmp_path / "calls").exists()  # SLURM starts a job again if its script says so
    assert not list(tmp_path.glob("hpc_ckpt*"))


def test_a_checkpoint_that_cannot_be_written_does_not_damage_the_previous_one(cli: CLI, tmp_path: Path) -> None:
    cli(*SHORT, "--trainer.max_epochs=1", "--model.schedule=constant")
    checkpoints = tmp_path / "lightning_logs" / "version_0" / "checkpoints"
    before = {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    with largest_file(500_000):
        result = cli(*SHORT, "--model.schedule=constant", "--ckpt_path=last")
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert "best.ckpt: File too large" in result.err
    assert before == {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    assert cli(*SHORT, "--model.schedule=constant", "--ckpt_path=last").status == 0


def test_the_plugin_writes_whole_files_that_can_be_loaded_again(tmp_path: Path) -> None:
    plugin, path = AtomicCheckpointIO(), tmp_path / "new folder" / "model.ckpt"
    plugin.save_checkpoint({"weights": torch.ones(3)}, path)
    assert torch.equal(plugin.load_checkpoint(path)["weights"], torch.ones(3))
    for state, name in [(Path("/"), "pathlib"), (lambda: 0, "lambda"), (Lock(), "lock")]:
        with pytest.raises(ValueError, match=rf"model\.ckpt cannot be saved.*{name}"):
            plugin.save_checkpoint({"state of a callback": state}, path)
    assert list(path.parent.iterdir()) == [path]
