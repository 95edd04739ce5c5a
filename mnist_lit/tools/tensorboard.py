"""TensorBoard's pages besides the curves: charts, hyperparameters, and pictures of the network and its mistakes."""

import warnings
from importlib.util import find_spec
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error
from torchmetrics.utilities.distributed import gather_all_tensors

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.module import Classifier
from mnist_lit.network import MLP
from mnist_lit.tools.figures import (
    beside_upright,
    draw_confusion_matrix,
    draw_distortions,
    draw_first_layer,
    draw_mistakes,
    last_hidden,
)

_PROJECTED = 1000  # images


class TensorBoardSummary(LearningRateMonitor):
    """Adds charts, hyperparameters and pictures to TensorBoard's curves.

    - The learning rate as a curve, for other loggers, too; in Custom Scalars two charts, loss and accuracy, with
      training and validation together, and a chart for each metric, for many runs; in Graphs the network; in HParams
      the hyperparameters and ``best_val_acc``, the highest ``val_acc`` so far.
    - After each validation and test, the accuracy on each digit's images, and the expected calibration error (Guo et
      al. 2017): the average gap between a guess's probability and the share of right guesses.
    - Before training, distorted digits. After training, ``trainer.validate`` and ``trainer.test``, the confusion matrix
      (if matplotlib is installed), the most confident mistakes and the first layer's weights: all three take a third of
      a second.
    - After a test, the last hidden layer for 1,000 images in the projector.

    The pictures and scores are for a Classifier, whose ``validation_step`` and ``test_step`` return the logits;
    other modules have the curve of the learning rate.
    """

    # A single callback, since Lightning calls each callback six times per step.

    def __init__(self) -> None:
        super().__init__()
        self._outputs: list[tuple[Tensor, Tensor, Tensor]] = []  # logits, labels and mistaken images of each batch
        self._logits = self._labels = self._mistakes = torch.empty(0)  # the same for all batches
        self._images: list[Tensor] = []  # the first images of a test

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Define the charts, draw the network and show distorted digits."""
        super().on_train_start(trainer)
        if not isinstance(pl_module, Classifier) or trainer.global_step:  # a continued run has them
            return
        network = pl_module.get_submodule("network")
        charts = {name: ["Multiline", [f"train_{name}$", f"val_{name}$"]] for name in ("loss", "acc")}
        by_metric = {tag: ["Multiline", [f"^{tag}$"]] for tag in ("val_acc", "val_loss", "train_loss")}
        datamodule = getattr(trainer, "datamodule", None)
        for logger in _tensorboard_loggers(trainer):
            logger.experiment.add_custom_scalars({"train and validation": charts, "many runs": by_metric})
            if isinstance(datamodule, MNISTDataModule) and datamodule.augment:
                picture = draw_distortions(datamodule, getattr(pl_module, "upright", None))
                logger.experiment.add_image("pictures/distorted_training_digits", picture)
            if not isinstance(network, MLP):
                continue
            with warnings.catch_warnings():
                # TensorBoard makes graphs with torch.jit.trace, which torch has deprecated (2.14 warns).
                warnings.filterwarnings("ignore", r"`torch\.jit\.trace", FutureWarning)
                # The network compares the shape of its input, and this graph is for one shape, so the trace holds.
                warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean")
                logger.experiment.add_graph(network, next(network.parameters()).new_zeros(1, 1, 28, 28))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the outputs of an interrupted evaluation."""
        self._outputs.clear()
        self._images.clear()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the outputs of an interrupted evaluation."""
        self.on_validation_start(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Keep the network's outputs."""
        if not isinstance(pl_module, Classifier) or not isinstance(outputs, Tensor) or outputs.ndim != 2:
            return
        images, labels = batch
        self._outputs.append((outputs, labels, images[outputs.argmax(dim=1) != labels]))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Keep the network's outputs, and the first images."""
        self.on_validation_batch_end(trainer, pl_module, outputs, batch)
        if isinstance(pl_module, Classifier) and batch_idx * len(batch[0]) < _PROJECTED:
            self._images.append(batch[0])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the scores. In training also log ``best_val_acc`` and the hyperparameters; else show the pictures."""
        if trainer.sanity_checking or not self._outputs:
            return
        self._gather(trainer)
        self._log_scores(trainer, "val")
        if trainer.state.fn == "fit":
            self._log_best(trainer, pl_module)
        else:
            self._show(trainer, pl_module, "val")

    def _log_best(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = trainer.global_step - 1  # where Lightning logs val_acc
        scores = [float(trainer.callback_metrics.get("val_acc", 0.0))]
        for callback in trainer.checkpoint_callbacks:  # their best score so far, without this validation
            if getattr(callback, "monitor", "val_acc") == "val_acc":
                scores.append(float(getattr(callback, "best_model_score", None) or 0.0))
        metric = {"best_val_acc": max(scores)}
        datamodule = getattr(trainer, "datamodule", None)
        hparams = {**pl_module.hparams, **(datamodule.hparams if datamodule else {}), "max_epochs": trainer.max_epochs}
        for logger in _tensorboard_loggers(trainer):
            if logger.hparams.keys() >= hparams.keys():
                logger.log_metrics(metric, step=step)
            else:
                logger.log_hyperparams(hparams, metric, step=step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the pictures."""
        if isinstance(pl_module, Classifier):
            self._show(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the scores, and show the pictures and, in the projector, the last hidden layer."""
        if not self._outputs:
            return
        self._gather(trainer)
        self._log_scores(trainer, "test")
        self._show(trainer, pl_module, "test")
        images = torch.cat(self._images)[:_PROJECTED]
        labels = self._labels[: len(images)]
        network = pl_module.get_submodule("network")
        for logger in _tensorboard_loggers(trainer):
            if isinstance(network, MLP):
                hidden = last_hidden(network, images).float()
                logger.experiment.add_embedding(hidden, labels.tolist(), images.float(), tag="last_hidden_layer")

    def _gather(self, trainer: Trainer) -> None:
        shares = [torch.cat(outputs) for outputs in zip(*self._outputs, strict=True)]
        if trainer.world_size > 1:
            shares = [torch.cat(gather_all_tensors(share)) for share in shares]
        self._logits, self._labels, self._mistakes = shares[0].float(), shares[1], shares[2].float()
        self._outputs.clear()

    def _log_scores(self, trainer: Trainer, stage: str) -> None:
        by_digit = multiclass_accuracy(self._logits, self._labels, num_classes=self._logits.shape[1], average="none")
        digits = self._labels.unique().tolist()  # a few images may not include every digit
        scores = {f"{stage}_acc_by_digit/{digit}": float(by_digit[digit]) for digit in digits}
        scores[f"{stage}_calibration_error"] = float(
            multiclass_calibration_error(
                self._logits.softmax(dim=1), self._labels, num_classes=self._logits.shape[1], n_bins=10
            )
        )
        step = max(trainer.global_step - 1, 0)  # where Lightning logs val_acc
        for logger in trainer.loggers:
            logger.log_metrics(scores, step)

    def _show(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        step = max(trainer.global_step - 1, 0)
        network = pl_module.get_submodule("network")
        for logger in _tensorboard_loggers(trainer):
            writer = logger.experiment
            if isinstance(network, MLP):
                writer.add_image("pictures/first_layer", draw_first_layer(network), step)
            if len(self._logits) and self._mistakes.shape[1:] == (1, 28, 28):
                wrong = self._logits.argmax(dim=1) != self._labels
                images = beside_upright(network, self._mistakes)
                mistakes = draw_mistakes(images, self._logits[wrong].softmax(dim=1), self._labels[wrong])
                writer.add_image(f"pictures/{stage}_mistakes", mistakes, step)
            if len(self._logits) and find_spec("matplotlib"):
                confusion = draw_confusion_matrix(self._logits, self._labels)
                writer.add_figure(f"pictures/{stage}_confusion_matrix", confusion, step)


def _tensorboard_loggers(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
