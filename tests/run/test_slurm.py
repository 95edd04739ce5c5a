"""SLURM's signal before a requeue, without a cluster."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CLI, Stop, assert_one_sentence
from test_checkpoint import SHORT, assert_same_run

from mnist_lit import MNISTClassifier, MNISTDataModule, make_trainer

pytestmark = pytest.mark.usefixtures("_stop", "_without_pictures")
JOB = {"NTASKS": "1", "JOB_ID": "77", "NNODES": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "NODELIST": "vm",
       "JOB_NAME": "train"}  # fmt: skip


@pytest.fixture(autouse=True)
def _slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    for name, value in JOB.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def test_a_requeued_job_ends_as_if_never_stopped(cli: CLI, tmp_path: Path) -> None:
    command = (*SHORT, "--data.augment.rotation=10")
    assert cli(*command).status == 0
    Stop.at, Stop.by, Stop.begun = 42, signal.SIGUSR1, 0
    stopped = cli(*command)
    assert stopped.status == 128 + signal.SIGUSR1
    assert stopped.err.startswith("stopped by SIGUSR1; saved lightning_logs/version_1/checkpoints/last.ckpt\n")
    assert (tmp_path / "calls").read_text() == "requeue 77\n"
    Stop.at = 0
    assert cli(*command, "--model.lr=0.1").status == 0  # another command of the job starts another run
    again = cli(*command)
    assert (again.status, again.err) == (0, "")
    assert "Run: lightning_logs/version_1\n" in again.out
    assert_same_run(tmp_path / "lightning_logs/version_0", tmp_path / "lightning_logs/version_1")
    assert "Run: lightning_logs/version_3\n" in cli(*command).out  # the run has ended: the command starts a new one
    assert not list(tmp_path.glob("hpc_ckpt*"))


def test_sigterm_after_slurms_signal_does_not_interrupt_the_save(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    requeue = "mnist_lit.run.interruption.subprocess.run"
    monkeypatch.setattr(requeue, lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    Stop.at, Stop.by = 42, signal.SIGUSR1
    assert cli(*SHORT).status == 128 + signal.SIGUSR1
    assert torch.load("lightning_logs/version_0/checkpoints/last.ckpt")["global_step"] == 42


def test_a_run_starts_only_from_a_checkpoint_that_was_named(cli: CLI, tmp_path: Path) -> None:
    assert cli(*SHORT).status == 0
    (tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt").rename(tmp_path / "hpc_ckpt_1.ckpt")
    assert cli(*SHORT).status == 0
    best = (tmp_path / f"lightning_logs/version_{number}/checkpoints/best.ckpt" for number in (0, 1))
    one, two = (torch.load(path)["state_dict"] for path in best)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_several_slurm_tasks_for_one_process_are_refused(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert_one_sentence(cli(*SHORT), "SLURM_NTASKS is 4", "one process", "srun --ntasks 1")


def test_after_a_failed_requeue_the_run_prints_how_to_continue(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    Stop.at, Stop.by = 42, signal.SIGUSR1
    with pytest.warns(UserWarning, match="SLURM was not asked to start the job again"):
        stopped = cli(*SHORT)
    assert "\nContinue: python -m mnist_lit fit " in stopped.err
    assert not list(tmp_path.rglob(".requeued"))


def test_a_requeued_job_continues_the_training_that_was_stopped(data_dir: Path, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    data = MNISTDataModule(data_dir, seed=1)
    options: dict[str, Any] = {"max_epochs": 1, "limit_train_batches": 100, "limit_val_batches": 2}
    Stop.at, Stop.by = 20, signal.SIGUSR1
    with pytest.raises(Exception, match="stopped by SIGUSR1"):
        make_trainer(**options).fit(MNISTClassifier(), data)
    Stop.at = 0
    steps = []
    for seed in 0, 1:
        trainer, begun = make_trainer(**options), Stop.begun
        trainer.fit(MNISTClassifier(), MNISTDataModule(data_dir, seed=seed))
        steps.append(Stop.begun - begun)
    assert steps[0] == 100
    assert steps[1] < 100
