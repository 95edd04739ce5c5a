"""How the commands and the Trainer run: without messages that nobody asked for, on one thread if that is faster."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, unless ``OMP_NUM_THREADS`` is set, for as long as the context lasts.

    A step of the small network of this package, or a picture, is too small to share. On an idle machine a second thread
    gains nothing. On a busy one the two wait for each other, and an epoch of one second can take ten.
    """
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide messages that nobody asked for, for as long as the context lasts."""

    def was_asked_for(record: logging.LogRecord) -> bool:  # a function of this context's own: contexts may overlap
        # Below warnings, Lightning reports devices, seeds, its makers' other packages and why it stopped. The user has
        # asked for the messages of a callback, a profiler or a tuner.
        is_requested = Path(record.pathname).parent.name in ("callbacks", "profilers", "tuner")
        return is_requested or record.levelno >= logging.WARNING

    handlers = logging.getLogger("lightning.pytorch").handlers + logging.getLogger("lightning.fabric").handlers
    with warnings.catch_warnings():
        # Every run of Lightning 2.6.6 uses a function that torch 2.14 has deprecated; no setting avoids it.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        # val_size 0 makes an empty validation loader on purpose; Lightning takes any empty loader for a
        # mistake, and has no option against the warning.
        warnings.filterwarnings("ignore", "Total length of `TensorBatches` across ranks is zero")
        for handler in handlers:
            handler.addFilter(was_asked_for)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(was_asked_for)
