"""The line for each epoch, and the bar on a terminal."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from mnist_lit.run.interruption import TrainingInterruptedError


class EpochBar(TQDMProgressBar):
    """The progress bar of an epoch in 80 columns, with the validation accuracy first."""

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"

    def __init__(self) -> None:
        super().__init__(refresh_rate=50, leave=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar: else it would be drawn once more, after the message."""
        if isinstance(exception, TrainingInterruptedError):
            self.train_progress_bar.close()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the metrics in the order of the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        first = {name: metrics[name] for name in ("val_acc", "train_loss") if name in metrics}
        return first | metrics


class EpochLines(Callback):
    """Prints a line for each epoch in place of a progress bar: for notebooks, files and pipes.

    ``Epoch 1: [550/550], Loss: 0.2927, Validation accuracy: 96.20 %``: the number of the epoch, its batches, the mean
    of their losses, and the accuracy on the validation images if it was measured.
    """

    def __init__(self) -> None:
        self._batches = 0
        self._validated = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Turn off the bar that Lightning adds."""
        if bar := trainer.progress_bar_callback:
            bar.disable()

    # The module logs train_loss after this callback's hook at the end of an epoch. So each line is printed when the
    # next epoch starts or the training ends.

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Print the line of the previous epoch."""
        self._print_line(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Print the line of the last epoch."""
        self._print_line(trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note the number of batches, for a line to print."""
        self._batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Note that the line has a validation accuracy."""
        self._validated = not trainer.sanity_checking

    def _print_line(self, trainer: Trainer) -> None:
        metrics = trainer.callback_metrics
        if self._batches and "train_loss" in metrics and trainer.is_global_zero:
            line = f"Epoch {trainer.current_epoch}: [{self._batches}/{trainer.num_training_batches}]"
            line += f", Loss: {metrics['train_loss']:.4f}"
            if self._validated and "val_acc" in metrics:
                line += f", Validation accuracy: {100 * metrics['val_acc']:.2f} %"
            print(line, flush=True)
        self._batches, self._validated = 0, False
