"""How the commands and the Trainer run: on one thread, without messages that nobody asked for."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def one_thread_and_quiet() -> Iterator[None]:
    """Compute with one thread, and hide messages that nobody asked for, for as long as the context lasts."""
    names = "lightning.pytorch", "lightning.fabric"
    handlers = [(each, each.filters) for name in names for each in logging.getLogger(name).handlers]
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        # Every run of Lightning 2.6.6 uses a function that torch 2.14 has deprecated; no setting avoids it.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "Total length of `TensorBatches` across ranks is zero")  # val_size 0
        for handler, filters in handlers:
            handler.filters = [*filters, _was_asked_for]
        if "OMP_NUM_THREADS" not in os.environ:
            # A step is too small to share. On an idle machine a second thread gains nothing. On a busy one the two wait
            # for each other, and an epoch of one second can take ten.
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            for handler, filters in handlers:
                handler.filters = filters


def _was_asked_for(record: logging.LogRecord) -> bool:
    # Below warnings, Lightning reports devices, seeds, its makers' other packages and why it stopped. The user has
    # asked for the messages of a callback, a profiler or a tuner.
    asked_for = Path(record.pathname).parent.name in ("callbacks", "profilers", "tuner")
    return record.levelno >= logging.WARNING or asked_for
