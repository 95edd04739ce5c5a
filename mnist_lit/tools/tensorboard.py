"""TensorBoard's pages besides the curves: charts, hyperparameters, scores, confusion matrix, projector."""

from importlib.util import find_spec
from typing import Any, cast

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.summary import hparams as summarize_hparams
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassConfusionMatrix
from torchmetrics.wrappers import ClasswiseWrapper
from typing_extensions import override

from mnist_lit.module import Classifier
from mnist_lit.network import MLP
from mnist_lit.tools.evaluation import changed_options
from mnist_lit.tools.figures import draw_confusion_matrix


class TensorBoardSummary(LearningRateMonitor):
    """Adds charts, hyperparameters and pictures to TensorBoard's curves.

    - The learning rate as a curve, for other loggers, too; in Custom Scalars a chart for each loss and accuracy; in
      HParams the options that differ from their defaults, and ``best_val_acc``, the highest ``val_acc`` so far.
    - After each validation and test, the accuracy on each digit's images, and the expected calibration error (Guo et
      al. 2017): the average gap between a guess's probability and the share of correct guesses.
    - After training, ``trainer.validate`` and ``trainer.test``, the confusion matrix, if matplotlib is installed; after
      a test, the last hidden layer for the images of the first batch in the projector.

    All but the learning rate is for a Classifier, whose ``validation_step`` and ``test_step`` return the logits.
    """

    # A single callback, since Lightning calls each callback six times per step.

    _metrics: MetricCollection | None = None  # of a validation or test of a Classifier
    _has_answers = False
    _confusion: Tensor | None = None  # of the last one
    _best_val_acc: float | None = None
    _has_hparams = False  # whether they are logged

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best_val_acc": self._best_val_acc}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best_val_acc = state_dict["best_val_acc"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Define the charts."""
        super().on_train_start(trainer)
        self._confusion, self._has_hparams = None, False
        if not isinstance(pl_module, Classifier) or trainer.global_step:  # a resumed run has them
            return
        self._best_val_acc = None
        # A chart for each metric, since all lines of a run have one colour.
        pairs = {"loss": ("train_loss", "val_loss"), "accuracy": ("train_acc", "val_acc")}
        charts = {title: {tag: ["Multiline", [f"^{tag}$"]] for tag in tags} for title, tags in pairs.items()}
        for logger in _tensorboard_loggers(trainer):
            logger.experiment.add_custom_scalars(charts)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count the network's answers."""
        self._metrics, self._has_answers, self._confusion = None, False, None
        if isinstance(pl_module, Classifier):
            stage = "test" if trainer.testing else "val"
            classes = cast(int, pl_module.metrics[f"{stage}_acc"].num_classes)
            by_digit = MulticlassAccuracy(classes, average="none")
            metrics: dict[str, Metric | MetricCollection] = {
                "confusion": MulticlassConfusionMatrix(classes),
                "by_digit": ClasswiseWrapper(by_digit, [*map(str, range(classes))], f"{stage}_acc_by_digit/"),
                f"{stage}_calibration_error": MulticlassCalibrationError(classes, n_bins=10),
            }
            self._metrics = MetricCollection(metrics, compute_groups=False).to(pl_module.device)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        """Count the network's answers. Show the last hidden layer for the first test images in the projector."""
        if self._metrics is None or not isinstance(outputs, Tensor) or outputs.ndim != 2:
            return
        images, labels = batch
        self._has_answers = True
        if len(labels):  # a process may have no images of a small last batch
            self._metrics.update(outputs.float().softmax(dim=1), labels)
        network = pl_module.get_submodule("network")
        if trainer.testing and batch_idx == 0 and isinstance(network, MLP):
            hidden = network.layers[:-1](network.upright(images)).float()
            for logger in _tensorboard_loggers(trainer):
                logger.experiment.add_embedding(hidden, labels.tolist(), images.float(), tag="last_hidden_layer")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the scores, and in training ``best_val_acc`` and the hyperparameters."""
        if trainer.sanity_checking or self._metrics is None or not self._has_answers:
            return
        scores = self._metrics.compute()  # of all processes
        self._confusion = scores.pop("confusion")
        for digit in (~self._confusion.any(dim=1)).nonzero().flatten().tolist():  # has no images
            scores = {name: score for name, score in scores.items() if not name.endswith(f"_by_digit/{digit}")}
        is_fit = trainer.state.fn == "fit"
        step = trainer.global_step - is_fit  # where Lightning logs val_acc
        for logger in trainer.loggers:
            logger.log_metrics({name: float(score) for name, score in scores.items()}, step)
        if is_fit:
            self._log_best(trainer, pl_module, step)
        else:
            self._show(trainer, step)

    on_test_start, on_test_batch_end, on_test_end = on_validation_start, on_validation_batch_end, on_validation_end

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last validation's confusion matrix."""
        self._show(trainer, max(trainer.global_step - 1, 0))

    def _log_best(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        metric: dict[str, float] = {}
        if "val_acc" in trainer.callback_metrics:  # a validation_step of one's own may not log it
            self._best_val_acc = max(self._best_val_acc or 0, float(trainer.callback_metrics["val_acc"]))
            metric = {"best_val_acc": self._best_val_acc}
        hparams = {"max_epochs": trainer.max_epochs} | changed_options(type(pl_module), pl_module.hparams)
        if datamodule := getattr(trainer, "datamodule", None):
            hparams |= changed_options(type(datamodule), datamodule.hparams)
        hparams = {name: each if isinstance(each, int | float | str) else str(each) for name, each in hparams.items()}
        for logger in _tensorboard_loggers(trainer):
            logger.log_metrics(metric, step)
            if trainer.is_global_zero and not self._has_hparams:
                # Without the first summary, the columns of the table: TensorBoard would take one run's for all runs.
                for summary in summarize_hparams(hparams, metric)[1:]:
                    logger.experiment.file_writer.add_summary(summary)
        self._has_hparams = True

    def _show(self, trainer: Trainer, step: int) -> None:
        if self._confusion is not None and find_spec("matplotlib"):
            picture = np.asarray(draw_confusion_matrix(self._confusion).reduce(2))
            name = f"{'test' if trainer.testing else 'val'}_confusion_matrix"
            for logger in _tensorboard_loggers(trainer):
                logger.experiment.add_image(name, picture, step, dataformats="HWC")


def _tensorboard_loggers(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
