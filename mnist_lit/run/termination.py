"""SIGTERM: a run ends as after Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch import Callback
from typing_extensions import override

from mnist_lit.errors import RunInterruptedError


class Termination(Callback):
    """Raises KeyboardInterrupt after SIGTERM, at the end of a batch or of the call.

    Lightning's own handler blocks several processes forever. An exception raised by a handler, at any moment, could
    leave a queue of a DataLoader locked.
    """

    signum = 0  # SIGTERM, if it has come

    @contextmanager
    def handled(self, saved: Callable[[], str | None]) -> Iterator[None]:
        """Handle the signal; raise RunInterruptedError after it and after Ctrl-C, with the checkpoint ``saved()``."""
        self.signum = 0
        changed = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD
        self._previous = {each: signal.getsignal(each) for each in changed}
        _handle(signal.SIGTERM, self._note)
        try:
            yield
            self.on_train_batch_end()
        except BaseException as error:
            cause = error.__context__ if isinstance(error, SystemExit) else error  # Lightning exits after Ctrl-C
            # SIGTERM may have ended a loader's worker, too, which is another error.
            if self.signum or isinstance(cause, KeyboardInterrupt):
                raise RunInterruptedError(self.signum or signal.SIGINT, saved()) from None
            raise
        finally:
            for signum, handler in self._previous.items():  # Lightning does not, if Ctrl-C comes early
                _handle(signum, handler)

    def _note(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
        _handle(signal.SIGCHLD, signal.SIG_DFL)  # `timeout` ends a loader's workers, too, which torch would raise

    @override
    def on_train_start(self, *_: Any, **__: Any) -> None:
        # Lightning has installed its own handlers, of SIGUSR1 to requeue a job of SLURM.
        _handle(signal.SIGTERM, self._note)
        _handle(signal.SIGUSR1, self._previous[signal.SIGUSR1])

    @override
    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        if self.signum:
            raise KeyboardInterrupt

    on_validation_start = on_test_start = on_predict_start = on_train_start
    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = on_train_batch_end


def _handle(signum: int, handler: Any) -> None:
    is_main = threading.current_thread() is threading.main_thread()  # Python allows it nowhere else
    if is_main and signal.getsignal(signum) is not handler:  # a handler in C, which Python does not know, stays
        signal.signal(signum, handler)
