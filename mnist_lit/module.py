"""The training of the network: loss, metrics, optimiser, learning rate."""

import math
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.errors import UserError
from mnist_lit.files import PRETRAINED
from mnist_lit.metrics import TrainMetrics
from mnist_lit.network import MLP, Activation, Batch
from mnist_lit.teacher import Teacher

Schedule = Literal["one_cycle", "constant"]


class MNISTClassifier(LightningModule):
    """An MLP trained with cross-entropy and stochastic gradient descent.

    Logs ``train_loss``, ``train_acc``, ``val_loss``, ``val_acc``, ``test_loss`` and ``test_acc`` once an epoch:
    cross-entropy in nats, ``train_loss`` the mean over the batches and the others over the images, and plain accuracy
    in [0, 1]. The training metrics are those of the steps as they were made, with the network changing under way. With
    a teacher ``train_loss`` is how far the network is from the teacher, and not comparable to ``val_loss``.
    Scores that are only looked at, in TensorBoard, are logged by ``tools/tensorboard.py``.

    Args:
        hidden_sizes: Number of units of each hidden layer, each at least 1.
        activation: What follows each hidden layer.
        lr: Learning rate, above 0; with ``one_cycle`` its highest value.
        momentum: Momentum, at least 0 and below 1.
        nesterov: Whether the momentum is Nesterov's (Sutskever et al. 2013); needs a momentum above 0.
        weight_decay: L2 penalty on all parameters, at least 0.
        schedule: ``one_cycle`` raises the learning rate for three tenths of the steps and lowers it to nearly 0
            (Smith and Topin 2018); ``constant`` leaves it alone.
        teacher: A trained network to learn from (Hinton, Vinyals and Dean 2015), of any ``hidden_sizes``: its
            checkpoint, or ``pretrained``; or a list of them, whose mean logits teach. It is shown the same distorted
            images (Beyer et al. 2022), and needed for the training alone.
        teacher_weight: Part of the teacher in the loss, above 0 and at most 1; the labels have the rest.
        temperature: What the logits of both are divided by before they are compared, above 0. A higher one makes longer
            steps, above all the first ones, and needs a lower learning rate.

    Raises:
        UserError: If an argument is out of range.

    Example:
        >>> model = MNISTClassifier(hidden_sizes=(32,), activation="tanh")
        >>> model(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        hidden_sizes: tuple[int, ...] = (128, 64),
        activation: Activation = "relu",
        lr: float = 0.2,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 5e-4,
        schedule: Schedule = "one_cycle",
        teacher: str | list[str] | None = None,
        teacher_weight: float = 1.0,
        temperature: float = 2.0,
    ) -> None:
        super().__init__()
        # These conditions refuse NaN, too, which compares false with everything.
        if not 0 < lr < math.inf:
            raise UserError(f"lr must be a number above 0, got {lr}")
        if not 0 <= momentum < 1:
            raise UserError(f"momentum must be at least 0 and below 1, got {momentum}")
        if nesterov and momentum == 0:
            raise UserError("nesterov needs a momentum above 0, got momentum 0")
        if not 0 <= weight_decay < math.inf:
            raise UserError(f"weight_decay must be a number of at least 0, got {weight_decay}")
        if schedule not in get_args(Schedule):
            raise UserError(f"schedule must be one of {', '.join(get_args(Schedule))}, got {schedule!r}")
        if not 0 < teacher_weight <= 1:
            raise UserError(f"teacher_weight must be above 0 and at most 1, got {teacher_weight}")
        if not 0 < temperature < math.inf:
            raise UserError(f"temperature must be a number above 0, got {temperature}")
        # save_hyperparameters keeps what it finds here. YAML has a list, and a Path could not be read again.
        hidden_sizes = tuple(hidden_sizes)
        if teacher is not None:
            teacher = str(teacher) if isinstance(teacher, str | Path) else [str(path) for path in teacher]
        self.save_hyperparameters()
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.teacher = teacher
        self.teacher_weight = teacher_weight
        self.temperature = temperature
        self._teacher: Teacher | None = None
        self._checksums: list[str] | None = None  # of the teacher that a checkpoint's training had
        self.network = MLP(hidden_sizes, activation)
        self.train_metrics = TrainMetrics()
        self.val_loss = MeanMetric(nan_strategy=math.nan)  # NaN stays NaN: a network that diverged must not look well
        self.val_acc = MulticlassAccuracy(num_classes=10, average="micro")
        self.test_loss = MeanMetric(nan_strategy=math.nan)
        self.test_acc = MulticlassAccuracy(num_classes=10, average="micro")

    @classmethod
    def from_pretrained(cls) -> "MNISTClassifier":
        """Return the network that comes with this package, trained with ``configs/best.yaml``, on the CPU.

        Example:
            >>> model = MNISTClassifier.from_pretrained()
            >>> probabilities = model(torch.zeros(5, 1, 28, 28)).softmax(dim=1)
        """
        return cls.load_from_checkpoint(PRETRAINED, map_location="cpu", weights_only=True).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float ``(N, 10)``, of float ``images`` ``(N, 1, 28, 28)`` with pixels in [0, 1]."""
        logits: Tensor = self.network(images)
        return logits

    def setup(self, stage: str) -> None:
        """Forget the steps of an earlier training, and read the teacher; a checkpoint is loaded after this hook.

        Raises:
            UserError: If the teacher is not there or not whole.
        """
        self.train_metrics.reset()
        if stage == "fit":
            names = [self.teacher] if isinstance(self.teacher, str) else self.teacher
            paths = [PRETRAINED if name == "pretrained" else Path(name) for name in names or []]
            self._teacher = Teacher(paths) if paths else None

    def on_fit_start(self) -> None:
        """Move the teacher to where the network is.

        Raises:
            UserError: If a training would go on with another teacher.
        """
        if self.trainer.ckpt_path and self._checksums != (self._teacher.checksums if self._teacher else None):
            raise UserError(
                f"teacher {self.teacher} is not, or no longer, what this training began with: name a copy of that, or "
                "begin anew"
            )
        if self._teacher is not None:
            self._teacher.to(next(self.parameters()))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of the batch; of several processes, each returns its part of it."""
        images, labels = batch
        logits = self(images)
        if self.trainer.world_size == 1:
            loss = self._loss(logits, batch, "mean")
        else:
            # DDP averages the gradients of the processes. Their shares of a batch can differ in size, so each divides
            # its sum by the size of the whole batch.
            batch_size = self.trainer.strategy.reduce(torch.tensor(len(labels), device=self.device), reduce_op="sum")
            loss = self._loss(logits, batch, "sum") * self.trainer.world_size / batch_size
        self.train_metrics.update(loss, logits, labels)
        return loss

    def _loss(self, logits: Tensor, batch: Batch, reduction: Literal["mean", "sum"]) -> Tensor:
        images, labels = batch
        if self._teacher is None:
            return F.cross_entropy(logits, labels, reduction=reduction)
        loss = self._teacher.loss(logits, images, self.temperature, reduction)
        if self.teacher_weight == 1:
            return loss
        return F.cross_entropy(logits, labels, reduction=reduction).lerp(loss, self.teacher_weight)

    def on_train_epoch_end(self) -> None:
        """Log ``train_loss`` and ``train_acc``.

        Raises:
            UserError: If the loss is infinite or not a number: the training has diverged.
        """
        metrics = self.train_metrics.compute(self.trainer.strategy)
        self.train_metrics.reset()
        if not metrics["train_loss"].isfinite():
            raise UserError(
                f"the training diverged in epoch {self.current_epoch + 1}: its loss is {float(metrics['train_loss'])} "
                f"with --model.lr {self.lr}; try a lower learning rate"
            )
        # They are equal on all processes already; sync_dist prevents a warning.
        self.log_dict(metrics, logger=False, prog_bar=True, sync_dist=True)
        # Lightning would give them to the loggers after the checkpoint of this epoch is saved. A run that is killed
        # between the two would never write them. The step is the one that Lightning would give.
        for logger in self.loggers:
            logger.log_metrics({name: float(value) for name, value in metrics.items()}, self.trainer.global_step - 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the metrics of an epoch that is not at its end, and which networks teach."""
        if not self.train_metrics.is_empty and not self.trainer.is_last_batch:
            checkpoint["train_metrics"] = self.train_metrics.reduced_state(self.trainer.strategy)
        if self._teacher is not None:
            checkpoint["teacher"] = self._teacher.checksums

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the metrics of an epoch that is not at its end, and remember which networks taught."""
        self._checksums = checkpoint.get("teacher")
        if "train_metrics" in checkpoint:
            self.train_metrics.restore(checkpoint["train_metrics"])
        else:
            self.train_metrics.reset()  # Lightning's LearningRateFinder goes back to such a checkpoint

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log ``val_loss`` and ``val_acc``, and return the logits."""
        return self._evaluation_step(batch, "val", self.val_loss, self.val_acc)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log ``test_loss`` and ``test_acc``, and return the logits."""
        return self._evaluation_step(batch, "test", self.test_loss, self.test_acc)

    def _evaluation_step(self, batch: Batch, stage: str, loss: MeanMetric, accuracy: MulticlassAccuracy) -> Tensor:
        images, labels = batch
        logits: Tensor = self(images)
        if len(labels):  # of a small last batch a process may have no image
            # In single precision: in half precision the mean of many losses would be coarse.
            loss.update(F.cross_entropy(logits.float(), labels), weight=len(labels))
            accuracy.update(logits, labels)
        self.log(f"{stage}_loss", loss, prog_bar=True)
        self.log(f"{stage}_acc", accuracy, prog_bar=True)
        return logits

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the probabilities of the ten digits, float ``(N, 10)``."""
        images, _ = batch
        return torch.softmax(self(images), dim=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return SGD and the schedule of its learning rate.

        Raises:
            UserError: If ``one_cycle`` is asked of a run whose number of steps is not known beforehand.
        """
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            # Lightning cannot clip gradients of a fused optimizer in mixed precision. Fused, SGD takes half the time,
            # and without momentum gives the same weights to the last bit.
            fused=not self.trainer.gradient_clip_val,
        )
        scheduler: LRScheduler
        if self.schedule == "one_cycle":
            steps = self.trainer.estimated_stepping_batches
            if not 0 < steps < math.inf:
                raise UserError(
                    f"schedule one_cycle needs a number of steps that is above 0 and known beforehand, got {steps}: "
                    "it follows from max_epochs, max_steps and limit_train_batches; or set schedule constant"
                )
            # cycle_momentum would move the momentum too, away from what the user set
            scheduler = OneCycleLR(optimizer, max_lr=self.lr, total_steps=int(steps), cycle_momentum=False)
            interval = "step"
        else:
            scheduler = ConstantLR(optimizer, factor=1.0)  # changes nothing; gives the curve of the learning rate
            interval = "epoch"
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": interval, "name": "lr"},
        }
