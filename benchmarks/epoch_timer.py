"""A Lightning callback that writes down how long each epoch takes."""

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer


class EpochTimer(Callback):
    """Times each epoch from its start to the next one's, all that Lightning does between them included.

    Args:
        output: JSON file to write: ``epochs``, the seconds of each epoch without its validation, and ``validation``.
    """

    def __init__(self, output: str) -> None:
        self.output = Path(output)
        self.epochs: list[float] = []
        self.validation: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Begin an epoch, and end the one before."""
        now = time.perf_counter()
        if trainer.current_epoch > 0:
            self._end(now)
        self._start = now
        self._validated = 0.0

    def on_validation_start(self, *_: Any) -> None:
        """Begin a validation."""
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Add a validation to the epoch's."""
        if not trainer.sanity_checking:
            self._validated += time.perf_counter() - self._validation_start

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Write the seconds down, of several processes the first one's."""
        self._end(time.perf_counter())
        if not trainer.is_global_zero:
            return
        self.output.write_text(json.dumps({"epochs": self.epochs, "validation": self.validation}))

    def _end(self, now: float) -> None:
        self.epochs.append(now - self._start - self._validated)
        self.validation.append(self._validated)
