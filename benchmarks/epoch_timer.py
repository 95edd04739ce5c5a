"""A Lightning callback that writes down how long each epoch takes."""

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer


class EpochTimer(Callback):
    """Times each epoch from its start to the next one's, with all that Lightning does between them.

    Args:
        output: JSON file to write: ``epochs``, the seconds of each epoch without its validation, and ``validation``.
    """

    def __init__(self, output: str) -> None:
        self.output = Path(output)
        self.starts: list[float] = []
        self.validation: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """Begin an epoch."""
        self.starts.append(time.perf_counter())
        self.validation.append(0.0)

    def on_validation_start(self, *_: Any) -> None:
        """Begin a validation."""
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Add a validation to the epoch's."""
        if not trainer.sanity_checking:
            self.validation[-1] += time.perf_counter() - self._validation_start

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Write the seconds down, of several processes the first one's."""
        if trainer.is_global_zero:
            times = [*self.starts, time.perf_counter()]
            epochs = [end - start - pause for start, end, pause in zip(times, times[1:], self.validation, strict=False)]
            self.output.write_text(json.dumps({"epochs": epochs, "validation": self.validation}))
