"""Signals that stop a training."""

import os
import signal
import threading
from types import FrameType

import torch
from lightning.pytorch import Trainer


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


class Interruption:
    """Notes SIGINT (Ctrl-C) and SIGTERM, for a training that stops after the step under way.

    Lightning's own handlers stop within a step and save nothing. A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self._noted = self._agreed = 0

    def watch(self) -> None:
        """Take over the signals; at the end of the training Lightning gives them back."""
        self._noted = self._agreed = 0
        if threading.current_thread() is threading.main_thread():
            for signum in signal.SIGINT, signal.SIGTERM:
                signal.signal(signum, self._note)

    def _note(self, signum: int, _: FrameType | None) -> None:
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
