"""Signals that stop a training, and SLURM's requeueing of its job."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

_REQUEUED = ".requeued"  # in the folder of a run whose job is started again: the job and its command


class TrainingInterruptedError(Exception):
    """A signal stopped the training, which can be continued.

    Args:
        signum: The signal's number.
        path: The checkpoint that was saved; empty if there is none.
    """

    def __init__(self, signum: int, path: str) -> None:
        saved = f"saved {os.path.relpath(path)}" if path else "nothing was saved"
        super().__init__(f"stopped by {signal.Signals(signum).name}; {saved}")
        self.signum = signum
        self.path = path


def continue_command(checkpoint: Path) -> str:
    """Return the command that continues the run of this process from a checkpoint."""
    config = checkpoint.parent.parent / "config.yaml"
    options = ["--config", os.path.relpath(config)] if config.is_file() else sys.argv[2:]
    return shlex.join(["python", "-m", "mnist_lit", "fit", *options, "--ckpt_path", os.path.relpath(checkpoint)])


class Interruption:
    """Notes SIGINT (Ctrl-C), SIGTERM and SLURM's signal before a requeue, for a training that stops between two steps.

    Lightning's own handlers stop within a step and save nothing, or save within a round of steps. A second signal ends
    the process at once.
    """

    def __init__(self) -> None:
        self._noted = self._agreed = self._requeue_signal = 0

    def watch(self, trainer: Trainer, is_requeued: bool) -> None:
        """Take over the signals, SLURM's if its job can go on; at the training's end Lightning gives them back."""
        self._noted = self._agreed = 0
        environment = trainer._accelerator_connector.cluster_environment
        self._requeue_signal = 0
        is_requeued &= isinstance(environment, SLURMEnvironment) and environment.auto_requeue
        if is_requeued and isinstance(environment, SLURMEnvironment) and environment.requeue_signal:
            self._requeue_signal = int(environment.requeue_signal)
        if threading.current_thread() is threading.main_thread():
            for signum in {signal.SIGINT, signal.SIGTERM, self._requeue_signal or signal.SIGINT}:
                signal.signal(signum, self._note)

    def _note(self, signum: int, _: FrameType | None) -> None:
        if self._noted and self._noted == self._requeue_signal:
            return  # SLURM sends SIGTERM, too, and kills a process that does not end
        if self._noted:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self._noted = signum

    def signum(self, trainer: Trainer, batch_idx: int) -> int:
        """Return the signal to stop for after this batch, 0 for none; all processes stop after the same one."""
        if trainer.world_size == 1:
            return self._noted
        if batch_idx % 10 == 0:
            noted = torch.tensor(self._noted, device=trainer.strategy.root_device)
            self._agreed = int(trainer.strategy.reduce(noted, reduce_op="max"))
        return self._agreed

    def requeue(self, trainer: Trainer, run_dir: Path, signum: int) -> None:
        """After SLURM's signal, ask it to start the job again, and note that in the run's folder."""
        if signum == self._requeue_signal and trainer.is_global_zero:
            (run_dir / _REQUEUED).write_text(json.dumps({"job": _job(), "hparams": _hparams(trainer)}))
            try:
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                rank_zero_warn(f"SLURM was not asked to start the job again: {error}")
                forget_requeued(run_dir)


def find_requeued(root: Path, trainer: Trainer | None = None) -> Path | None:
    """Return the last checkpoint of the run that SLURM starts again with this job and command; None if there is none.

    Args:
        root: Where ``lightning_logs`` is.
        trainer: With a model and data, whose hyperparameters must be those of the run: a program may train several.
    """
    if "SLURM_JOB_ID" in os.environ:
        for note in (root / "lightning_logs").glob(f"version_*/{_REQUEUED}"):
            run = json.loads(note.read_text())
            if run["job"] == _job() and (trainer is None or run["hparams"] == _hparams(trainer)):
                return note.with_name("checkpoints") / "last.ckpt"
    return None


def forget_requeued(run_dir: Path) -> None:
    """Remove the note of a run that is being continued."""
    (run_dir / _REQUEUED).unlink(missing_ok=True)


def _job() -> list[str]:
    return [os.environ["SLURM_JOB_ID"], *sys.argv]


def _hparams(trainer: Trainer) -> str:
    parts = trainer.lightning_module, getattr(trainer, "datamodule", None)
    return json.dumps([dict(part.hparams) if part else {} for part in parts], default=str)
