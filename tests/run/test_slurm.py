"""A job of SLURM, without a cluster."""

import os
import signal
from pathlib import Path

import pytest
from conftest import CLI, Stop
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


def test_a_job_receives_its_own_signal_and_is_stopped_without_being_requeued(cli: CLI, tmp_path: Path) -> None:
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
