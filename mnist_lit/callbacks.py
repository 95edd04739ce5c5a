"""What a run keeps and shows: its checkpoints, a line for each epoch, and in TensorBoard what belongs with the curves.

Lightning calls each callback six times a step, whether it has anything to do or not, which takes 1 % of the time of a
small network like this: so there are few of them.
"""

import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, from the epoch of the highest ``val_acc``, and ``last.ckpt``, from the last one.

    ModelCheckpoint's own ``save_last`` keeps the last one only of the epochs that are the best so far.

    Args:
        validated: Whether there will be a ``val_acc``; without one there is no best checkpoint.
    """

    # ModelCheckpoint's key lists its settings, anew in each of its hooks in each step: 2 % of an epoch.
    state_key = "RunCheckpoint"

    def __init__(self, validated: bool = True) -> None:
        super().__init__(
            filename="best",
            monitor="val_acc" if validated else None,
            mode="max",
            save_top_k=1 if validated else 0,
            enable_version_counter=False,
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last checkpoint, and the best one if this is it."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.dirpath and not getattr(trainer, "fast_dev_run", False):  # then nothing is to be kept
            self.last_model_path = str(Path(self.dirpath, "last.ckpt"))
            trainer.save_checkpoint(self.last_model_path)


class EpochLines(ProgressBar):
    """Prints a line for each epoch, for output that is not a terminal.

    ``Epoch 1: [550/550], Loss: 0.2927, Validation accuracy: 96.20 %``: the number of the epoch, its batches, the mean
    of their losses, and the accuracy on the validation images if it was measured.
    """

    def __init__(self) -> None:
        super().__init__()
        self._batches = 0
        self._validated = False

    def disable(self) -> None:
        """Do nothing: this prints on the main process alone."""

    # Callbacks hear of an epoch's end before the module, which then logs train_loss: so each line waits for what
    # comes next, another epoch or the end.

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Print the line of the epoch before."""
        self._print_line(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Print the last epoch's line."""
        self._print_line(trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note that there is a line to print, and of how many batches."""
        self._batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Note that the line has a validation accuracy."""
        self._validated = not trainer.sanity_checking

    def _print_line(self, trainer: Trainer) -> None:
        metrics = trainer.callback_metrics
        if self._batches and "train_loss" in metrics and trainer.is_global_zero:
            line = f"Epoch {trainer.current_epoch}: [{self._batches}/{trainer.num_training_batches}]"
            line += f", Loss: {metrics['train_loss']:.4f}"
            if self._validated:
                line += f", Validation accuracy: {100 * metrics['val_acc']:.2f} %"
            print(line, flush=True)
        self._batches, self._validated = 0, False


class TensorBoardSummary(LearningRateMonitor):
    """Adds to TensorBoard's curves what explains them.

    The learning rate has a curve, with other loggers too. Custom Scalars gets a chart with train and validation
    together for the loss and one for the accuracy, Graphs the network, HParams the hyperparameters with
    ``best_val_acc``, the highest ``val_acc`` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.best_val_acc = 0.0
        self._logged_hparams = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lay out the charts and draw the network."""
        super().on_train_start(trainer)
        network = pl_module.get_submodule("network")
        charts = {name: ["Multiline", [f"train_{name}$", f"val_{name}$"]] for name in ("loss", "acc")}
        for logger in _tensorboard_loggers(trainer):
            logger.experiment.add_custom_scalars({"train and validation": charts})
            with warnings.catch_warnings():
                # TensorBoard's graphs are made with torch.jit.trace, which torch 2.15 has deprecated.
                warnings.filterwarnings("ignore", r"`torch\.jit\.trace", FutureWarning)
                logger.experiment.add_graph(network, next(network.parameters()).new_zeros(1, 1, 28, 28))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log ``best_val_acc``, and the first time the hyperparameters."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        step = trainer.global_step - 1  # where Lightning logs val_acc
        self.best_val_acc = max(self.best_val_acc, float(trainer.callback_metrics["val_acc"]))
        for logger in _tensorboard_loggers(trainer):
            metric = {"best_val_acc": self.best_val_acc}
            if not self._logged_hparams:
                datamodule = getattr(trainer, "datamodule", None)
                hparams = {**pl_module.hparams, **(datamodule.hparams if datamodule else {})}
                hparams["max_epochs"] = trainer.max_epochs
                logger.log_hyperparams(hparams, metric, step=step)
            else:
                logger.log_metrics(metric, step=step)
        self._logged_hparams = True

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs."""
        return {"best_val_acc": self.best_val_acc}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the run that is continued."""
        self.best_val_acc = state_dict["best_val_acc"]


def _tensorboard_loggers(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
