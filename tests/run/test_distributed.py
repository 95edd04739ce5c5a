"""Runs of several real processes, on the CPU."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CLI, curves, without_seconds
from lightning.pytorch import Callback, Trainer

from mnist_lit.checkpoints import load_whole

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TWO = (f"--config={ROOT}/configs/ddp.yaml",)
# Rounding errors, which depend on the order of a sum, grow with the learning rate and the number of steps.
CALM = ("--model.schedule=constant", "--model.lr=0.02")
# 101 steps with batches of an odd size and a smaller last batch. The last validation batch has one image: the second
# process has none.
UNEVEN = ("--data.batch_size=545", "--data.val_size=5001")


class SeenImages(Callback):
    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.seen: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch[0])

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        torch.save(self.seen, Path(self.folder, f"{trainer.world_size}_{trainer.global_rank}.pt"))


def processes(*command: str, data_dir: Path, cwd: Path) -> "subprocess.Popen[str]":
    """Start ``python -m mnist_lit`` with ``command``."""
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_lit", *command, f"--data.data_dir={data_dir}"],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(folder) for folder in (HERE, HERE.parent, ROOT))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_same_curves(one: Path, other: Path, within: float) -> None:
    ones, others = curves(one), curves(other)
    assert ones.keys() == others.keys()
    for tag, points in ones.items():
        for (step, value), (other_step, other_value) in zip(points, others[tag], strict=True):
            assert step == other_step
            assert value == pytest.approx(other_value, abs=within)


def test_two_processes_train_like_one(cli: CLI, tmp_path: Path, data_dir: Path) -> None:
    seen = ("--trainer.callbacks+=test_distributed.SeenImages", f"--trainer.callbacks.folder={tmp_path}")
    augment = ("--data.augment.rotation=10", "--data.augment.elastic=0.8")
    # Smooth: with ReLU a rounding error can turn a unit on, or off, for an image.
    command = ("fit", "--trainer.max_epochs=1", "--model.activation=silu", *CALM, *UNEVEN, *augment, *seen)
    one = cli(*command)
    two = processes(*command, *TWO, data_dir=data_dir, cwd=tmp_path)
    out, err = two.communicate()
    assert (two.returncode, err) == (0, "")
    # Only one of the two processes prints, and it prints the same lines.
    assert without_seconds(out) == without_seconds(one.out).replace("version_0", "version_1")
    runs = [tmp_path / "lightning_logs" / f"version_{n}" for n in (0, 1)]
    weights = [load_whole(run / "checkpoints" / "last.ckpt")["state_dict"] for run in runs]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], rtol=0, atol=1e-5)
    assert_same_curves(runs[0], runs[1], 1e-5)
    whole, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1_0", "2_0", "2_1"))
    for batch, even, odd in zip(whole, first, second, strict=True):
        assert torch.equal(batch[0::2], even)
        assert torch.equal(batch[1::2], odd)


@pytest.mark.slow
def test_two_processes_are_stopped_and_killed_and_one_continues(cli: CLI, tmp_path: Path, data_dir: Path) -> None:
    recipe = ("fit", "--trainer.max_epochs=3", "--data.batch_size=500", *CALM)
    run = processes(*recipe, *TWO, data_dir=data_dir, cwd=tmp_path)
    last = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"

    def wait_for_epoch(number: int) -> None:
        while not last.exists() or load_whole(last)["global_step"] < 110 * number:
            assert run.poll() is None
            time.sleep(0.01)

    wait_for_epoch(1)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 143
    assert err.startswith("stopped by SIGTERM; saved ")
    assert "\nContinue: python -m mnist_lit fit --config lightning_logs/version_0/config.yaml " in err

    run = processes(*recipe, *TWO, "--ckpt_path=last", data_dir=data_dir, cwd=tmp_path)
    wait_for_epoch(2)
    (child,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    run.communicate(timeout=60)
    assert run.returncode != 0

    continued = cli(*recipe, "--ckpt_path=last")
    assert (continued.status, continued.err) == (0, "")
    assert "Run: lightning_logs/version_0\n" in continued.out
    cli(*recipe)
    assert_same_curves(last.parents[1], last.parents[1].with_name("version_1"), 1e-3)
