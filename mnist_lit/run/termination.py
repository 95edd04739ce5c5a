"""SIGTERM: a run ends as after Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Termination(Callback):
    """Raises KeyboardInterrupt after SIGTERM, at the end of a batch or of the call.

    Lightning's own handler blocks several processes forever. An exception raised by a handler, at any moment, could
    leave a queue of a DataLoader locked.
    """

    signum = 0  # SIGTERM, if it has come

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signal, and restore all handlers at the end, as Lightning does not if Ctrl-C comes early."""
        self.signum = 0
        self._previous = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
        _handle(signal.SIGTERM, self._note)
        try:
            yield
            self.on_train_batch_end()
        finally:
            for signum, handler in self._previous.items():
                _handle(signum, handler)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers: of SIGTERM, and of the signal after which it would requeue a job of SLURM."""
        _handle(signal.SIGTERM, self._note)
        _handle(signal.SIGUSR1, self._previous[signal.SIGUSR1])

    def _note(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
        _handle(signal.SIGCHLD, signal.SIG_DFL)  # `timeout` ends a loader's workers, too, which torch would raise

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop the run."""
        if self.signum:
            raise KeyboardInterrupt

    on_validation_start: Any = on_train_start
    on_test_start: Any = on_train_start
    on_predict_start: Any = on_train_start
    on_validation_batch_end: Any = on_train_batch_end
    on_test_batch_end: Any = on_train_batch_end
    on_predict_batch_end: Any = on_train_batch_end


def _handle(signum: int, handler: Any) -> None:
    is_main = threading.current_thread() is threading.main_thread()  # Python allows it nowhere else
    if is_main and signal.getsignal(signum) is not handler:  # a handler in C, which Python does not know, stays
        signal.signal(signum, handler)
