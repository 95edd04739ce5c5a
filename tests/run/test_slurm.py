"""A job of SLURM, without a cluster."""

import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import CLI, Stop, assert_one_sentence, assert_same_run
from test_checkpoint import SHORT

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


def test_a_job_that_was_stopped_continues_by_its_script(cli: CLI, tmp_path: Path) -> None:
    command = (*SHORT, "--data.augment.rotation=10")
    assert cli(*command).status == 0
    Stop.at, Stop.by, Stop.begun = 42, signal.SIGTERM, 0
    assert cli(*command).status == 128 + signal.SIGTERM
    assert not (tmp_path / "calls").exists()  # SLURM starts a job again if its script says so
    Stop.at = 0
    assert cli(*command, "--ckpt_path=last").status == 0
    assert_same_run(tmp_path / "lightning_logs/version_0", tmp_path / "lightning_logs/version_1")


def test_slurms_signal_is_not_lightnings(cli: CLI, tmp_path: Path) -> None:
    received = []
    before = signal.signal(signal.SIGUSR1, lambda *_: received.append(1))
    try:
        Stop.at, Stop.by, Stop.begun = 42, signal.SIGUSR1, 0
        assert cli(*SHORT).status == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == [1]
    assert not (tmp_path / "calls").exists()
    assert not list(tmp_path.glob("hpc_ckpt*"))


def test_a_checkpoint_that_lightning_left_is_not_taken_without_a_word(cli: CLI, tmp_path: Path) -> None:
    assert cli(*SHORT, "--trainer.max_epochs=1").status == 0
    (tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt").rename(tmp_path / "hpc_ckpt_1.ckpt")
    assert_one_sentence(cli(*SHORT), "hpc_ckpt_*.ckpt", "move it")
    assert [path.name for path in (tmp_path / "lightning_logs").iterdir()] == ["version_0"]
    assert torch.load("hpc_ckpt_1.ckpt")["global_step"] == 30


def test_several_slurm_tasks_for_one_process_are_refused(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert_one_sentence(cli(*SHORT), "--ntasks=4", "Use `--ntasks-per-node=4`")
