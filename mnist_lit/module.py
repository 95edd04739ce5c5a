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
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.datamodule import Batch
from mnist_lit.errors import UserError
from mnist_lit.network import MLP, Activation

Schedule = Literal["one_cycle", "constant"]

PRETRAINED = Path(__file__).with_name("pretrained.ckpt")
"""Checkpoint of the network that comes with this package: its weights and hyperparameters, no optimizer's state."""


class MNISTClassifier(LightningModule):
    """An MLP trained with cross-entropy and stochastic gradient descent.

    Logs ``train_loss``, ``train_acc``, ``val_loss``, ``val_acc``, ``test_loss`` and ``test_acc`` once an epoch:
    cross-entropy in nats, ``train_loss`` the mean over the batches and the others over the images, and plain accuracy
    in [0, 1]. The training metrics are those of the steps as they were made, with the network changing under way.

    Args:
        hidden_sizes: Number of units of each hidden layer, each at least 1.
        activation: What follows each hidden layer.
        lr: Learning rate, above 0; with ``one_cycle`` its highest value.
        momentum: Momentum, at least 0 and below 1.
        nesterov: Whether the momentum is Nesterov's (Sutskever et al. 2013); needs a momentum above 0.
        weight_decay: L2 penalty on all parameters, at least 0.
        schedule: ``one_cycle`` raises the learning rate for three tenths of the steps and lowers it to nearly 0
            (Smith and Topin 2018); ``constant`` leaves it alone.

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
    ) -> None:
        super().__init__()
        # Written so that NaN, which compares false with everything, is refused too.
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
        hidden_sizes = tuple(hidden_sizes)  # a list, as Python callers and YAML have it, would not compare equal
        self.save_hyperparameters()
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.network = MLP(hidden_sizes, activation)
        self.train_acc = MulticlassAccuracy(num_classes=10, average="micro")
        self.val_acc = MulticlassAccuracy(num_classes=10, average="micro")
        self.test_acc = MulticlassAccuracy(num_classes=10, average="micro")
        self._train_outputs: list[tuple[Tensor, Tensor, Tensor]] = []  # loss, logits and labels of each step
        self._train_losses: list[Tensor] = []  # those of the epoch's earlier steps, whose accuracy is in train_acc
        self._resumed_metrics: dict[str, Any] | None = None
        self._eval_outputs: list[tuple[Tensor, Tensor]] = []  # logits and labels

    @classmethod
    def from_pretrained(cls) -> "MNISTClassifier":
        """Return the network that comes with this package, trained with ``configs/best.yaml``, on the CPU.

        Example:
            >>> model = MNISTClassifier.from_pretrained()
            >>> probabilities = model(torch.zeros(5, 1, 28, 28)).softmax(dim=1)
        """
        return cls.load_from_checkpoint(PRETRAINED, map_location="cpu", weights_only=True).eval()

    def on_train_start(self) -> None:
        """Check that a continued run keeps to what it began, and take up its training metrics.

        Raises:
            UserError: If its schedule is ``one_cycle`` and its number of steps is another now.
        """
        scheduler, steps = self.lr_schedulers(), self.trainer.estimated_stepping_batches
        if isinstance(scheduler, OneCycleLR):
            if scheduler.optimizer.param_groups[0]["max_lr"] != self.lr:  # LearningRateFinder has found another
                self.trainer.strategy.setup_optimizers(self.trainer)
            elif scheduler.total_steps != steps:
                raise UserError(
                    f"the checkpoint's one_cycle is one of {scheduler.total_steps} steps, this run would have {steps}: "
                    "keep max_epochs and the number of batches as they were"
                )
        self._train_outputs, self._train_losses = [], []
        self.train_acc.reset()
        if self._resumed_metrics:
            self._train_losses = list(self._resumed_metrics["losses"].to(self.device))
            if self.trainer.is_global_zero:  # the counts of all processes are added up
                for name, count in self._resumed_metrics["acc"].items():
                    setattr(self.train_acc, name, count.to(self.device))
            self._resumed_metrics = None

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float ``(N, 10)``, of float ``images`` ``(N, 1, 28, 28)`` with pixels in [0, 1]."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of the batch."""
        images, labels = batch
        logits = self(images)
        if self.trainer.world_size == 1:
            loss = F.cross_entropy(logits, labels)
        else:
            # The gradient is the mean of those of the processes, whose shares of a batch may be of different sizes.
            batch_size = torch.tensor(len(labels), device=self.device)
            torch.distributed.all_reduce(batch_size)
            loss = F.cross_entropy(logits, labels, reduction="sum") * self.trainer.world_size / batch_size
        # Kept for the end of the epoch: logging both here made an epoch of 0.97 seconds one of 1.7.
        self._train_outputs.append((loss.detach(), logits.detach(), labels))
        return loss

    def on_train_epoch_end(self) -> None:
        """Log ``train_loss`` and ``train_acc``.

        Raises:
            UserError: If the loss is infinite or not a number: the training has diverged.
        """
        self._update_train_metrics()
        loss = self.trainer.strategy.reduce(torch.stack(self._train_losses).mean(), reduce_op="mean")
        if not loss.isfinite():
            raise UserError(
                f"the training diverged in epoch {self.current_epoch + 1}: its loss is {float(loss)} with --model.lr "
                f"{self.lr}; try a lower learning rate"
            )
        metrics = {"train_loss": loss, "train_acc": self.train_acc.compute()}
        self._train_losses = []
        self.train_acc.reset()
        self.log_dict(metrics, logger=False, sync_dist=True)  # equal on all processes: so that Lightning does not warn
        # What self.log gives to a logger is written after the checkpoints: a run killed between the two lost it.
        for logger in self.loggers:
            logger.log_metrics({name: float(value) for name, value in metrics.items()}, self.trainer.global_step - 1)

    def _update_train_metrics(self) -> None:
        if self._train_outputs:
            losses, logits, labels = zip(*self._train_outputs, strict=True)
            self._train_losses += losses
            self.train_acc.update(torch.cat(logits), torch.cat(labels))
            self._train_outputs.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the training metrics need of an epoch that is not at its end."""
        self._update_train_metrics()
        if self._train_losses and not self.trainer.is_last_batch:
            losses = self.trainer.strategy.reduce(torch.stack(self._train_losses), reduce_op="mean")
            with self.train_acc.sync_context():
                acc = {name: torch.as_tensor(count).clone() for name, count in self.train_acc.metric_state.items()}
            checkpoint["train_metrics"] = {"losses": losses, "acc": acc}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the training metrics until the training starts."""
        self._resumed_metrics = checkpoint.get("train_metrics")

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the logits of the batch, and keep them for the end of the epoch."""
        return self._evaluate(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log ``val_loss`` and ``val_acc``."""
        self._log_evaluation("val", self.val_acc)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the logits of the batch, and keep them for the end of the epoch."""
        return self._evaluate(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log ``test_loss`` and ``test_acc``."""
        self._log_evaluation("test", self.test_acc)

    def _evaluate(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch_idx == 0:
            self._eval_outputs.clear()
        images, labels = batch
        logits: Tensor = self(images)
        self._eval_outputs.append((logits, labels))
        return logits

    def _log_evaluation(self, stage: str, accuracy: MulticlassAccuracy) -> None:
        logits, labels = map(torch.cat, zip(*self._eval_outputs, strict=True))
        accuracy(logits, labels)
        loss = F.cross_entropy(logits.float(), labels)  # in mixed precision the logits are halves
        self.log(f"{stage}_loss", loss, batch_size=len(labels), prog_bar=True, sync_dist=True)
        self.log(f"{stage}_acc", accuracy, prog_bar=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the probabilities of the ten digits, float ``(N, 10)``."""
        images, _ = batch
        return self.forward(images).softmax(dim=1)

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
            # 0.10 ms a step in place of 0.21, and for plain SGD, the article's, the same to the last bit. Lightning
            # does not clip gradients of fused optimizers in mixed precision.
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
