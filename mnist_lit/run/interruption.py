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

_REQUEUED = ".requeued"  # file in the folder of a run that SLURM starts again: the job and its command


class TrainingInterruptedError(Exception):
    """A signal stopped the training, which can be continued.

    Args:
        signum: The signal's number.
        path: The checkpoint that was saved; empty if none was.
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
    """Notes SIGINT (Ctrl-C), SIGTERM and SLURM's signal before a requeue, so that a training stops between two steps.

    Lightning's own handlers stop within a step and save nothing, or save within a round of steps. A second signal ends
    the process at once.

    Attributes:
        signum: The signal to stop for, as of the last batch; 0 if there was none.
    """

    def __init__(self) -> None:
        self.signum = self._noted = self._requeue_signal = 0

    def watch(self, trainer: Trainer, is_requeued: bool) -> None:
        """Handle the signals, SLURM's only if the job can be requeued; Lightning restores the handlers afterwards."""
        self.signum = self._noted = self._requeue_signal = 0
        environment = trainer._accelerator_connector.cluster_environment
        if is_requeued and isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            self._requeue_signal = int(environment.requeue_signal or 0)
        if threading.current_thread() is threading.main_thread():
            for signum in {signal.SIGINT, signal.SIGTERM, self._requeue_signal or signal.SIGINT}:
                signal.signal(signum, self._note)

    def _note(self, signum: int, _: FrameType | None) -> None:
        if self._noted and self._noted == self._requeue_signal:
            return  # SLURM also sends SIGTERM, and later kills a process that has not ended
        if self._noted:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self._noted = signum

    def agree(self, trainer: Trainer, batch_idx: int) -> None:
        """Set ``signum``, after the same batch in all processes."""
        if trainer.world_size == 1:
            self.signum = self._noted
        elif batch_idx % 10 == 0:
            noted = torch.tensor(self._noted, device=trainer.strategy.root_device)
            self.signum = int(trainer.strategy.reduce(noted, reduce_op="max"))

    def requeue(self, trainer: Trainer, run_dir: Path) -> None:
        """Ask SLURM to start the job again if it sent the signal, and note that in the run's folder."""
        if self.signum == self._requeue_signal and trainer.is_global_zero:
            (run_dir / _REQUEUED).write_text(json.dumps({"job": _job(), "hparams": _hparams(trainer)}))
            try:
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                rank_zero_warn(f"SLURM was not asked to start the job again: {error}")
                forget_requeued(run_dir)


def find_requeued(root: Path, trainer: Trainer | None = None) -> Path | None:
    """Return the last checkpoint of the run that this job of SLURM, requeued, continues; None if there is none.

    Args:
        root: The folder that has ``lightning_logs``.
        trainer: If given, the hyperparameters of its model and data must match the run's: a program may train several.
    """
    if "SLURM_JOB_ID" in os.environ:
        for note in (root / "lightning_logs").glob(f"version_*/{_REQUEUED}"):
            run = json.loads(note.read_text())
            if run["job"] == _job() and (trainer is None or run["hparams"] == _hparams(trainer)):
                return note.with_name("checkpoints") / "last.ckpt"
    return None


def forget_requeued(run_dir: Path) -> None:
    """Remove the note from the folder of a run that continues."""
    (run_dir / _REQUEUED).unlink(missing_ok=True)


def _job() -> list[str]:
    return [os.environ["SLURM_JOB_ID"], *sys.argv]


def _hparams(trainer: Trainer) -> str:
    parts = trainer.lightning_module, getattr(trainer, "datamodule", None)
    return json.dumps([dict(part.hparams) if part else {} for part in parts], default=str)
