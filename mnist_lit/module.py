"""The training of the network: loss, metrics, optimiser, learning rate."""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ConstantLR, OneCycleLR
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.datamodule import Batch
from mnist_lit.errors import UserError, check_range
from mnist_lit.files import PRETRAINED
from mnist_lit.network import MLP, Activation

Schedule = Literal["one_cycle", "constant"]


class MNISTClassifier(LightningModule):
    """An MLP trained with cross-entropy and stochastic gradient descent.

    Logs ``train_loss``, ``train_acc``, ``val_loss``, ``val_acc``, ``test_loss`` and ``test_acc`` once an epoch:
    cross-entropy in nats, ``train_loss`` the mean over the batches and the others over the images, and plain accuracy
    in [0, 1]. The training metrics are measured during training, while the network changes.

    Args:
        hidden_sizes: Number of units of each hidden layer, each at least 1.
        activation: Activation function after each hidden layer.
        upright: Whether digits are made upright before the first layer; for images of other things, choose false.
        lr: Learning rate, above 0; with ``one_cycle`` its highest value.
        momentum: Momentum, at least 0 and below 1.
        nesterov: Whether the momentum is Nesterov's (Sutskever et al. 2013); needs a momentum above 0.
        weight_decay: L2 penalty on all parameters, at least 0.
        schedule: ``one_cycle`` raises the learning rate for 30 % of the steps and lowers it to nearly 0
            (Smith and Topin 2018); ``constant`` keeps it.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (128, 64),
        activation: Activation = "relu",
        upright: bool = True,
        lr: float = 0.2,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 2e-4,
        schedule: Schedule = "one_cycle",
    ) -> None:
        super().__init__()
        check_range("lr", lr, above=0)
        check_range("momentum", momentum, at_least=0, below=1)
        check_range("weight_decay", weight_decay, at_least=0)
        if nesterov and momentum == 0:
            raise UserError("nesterov needs a momentum above 0, got momentum 0")
        if schedule not in get_args(Schedule):
            raise UserError(f"schedule must be one of {', '.join(get_args(Schedule))}, got {schedule!r}")
        hidden_sizes = list(hidden_sizes)  # save_hyperparameters reads this variable; plain YAML has no tuples
        self.save_hyperparameters()
        self.network = MLP(hidden_sizes, activation, upright)
        self.train_metrics = TrainMetrics()
        self.val_loss = MeanMetric(nan_strategy=math.nan)  # NaN stays NaN: a network that diverged must not look good
        self.val_acc = MulticlassAccuracy(num_classes=10, average="micro")
        self.test_loss = MeanMetric(nan_strategy=math.nan)
        self.test_acc = MulticlassAccuracy(num_classes=10, average="micro")

    @classmethod
    def from_pretrained(cls) -> "MNISTClassifier":
        """Return the network of this package, trained with ``configs/best.yaml`` and drawn digits, on the CPU."""
        return cls.load_from_checkpoint(PRETRAINED, map_location="cpu", weights_only=True).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float ``(N, 10)``, of float ``images`` ``(N, 1, 28, 28)`` with pixels in [0, 1]."""
        logits: Tensor = self.network(images)
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of the images in nats, ``()``, for logits ``(N, 10)`` and labels ``(N,)``.

        A subclass may return another mean over the images: it is weighted by their number.
        """
        return F.cross_entropy(logits, labels)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of the batch; with several processes, this process's part of that mean."""
        images, labels = batch
        is_upright = getattr(self.trainer.train_dataloader, "upright", None) is not None
        logits = self.network.layers(images) if is_upright else self(images)
        if self.trainer.world_size == 1:
            loss = self.loss(logits, labels)
        else:
            # DDP averages gradients over processes. Shares of a batch can differ in size, so losses are weighted by it,
            # or be empty: the mean of no images is NaN, but the sum of no logits is 0, with gradients of 0.
            batch_size = self.trainer.strategy.reduce(torch.tensor(len(labels), device=self.device), reduce_op="sum")
            weight = len(labels) * self.trainer.world_size / batch_size
            loss = self.loss(logits, labels) * weight if len(labels) else logits.sum()
        self.train_metrics.update(loss, logits, labels)
        return loss

    def on_train_start(self) -> None:
        """Check that the one-cycle has the steps of this training; raise UserError if not."""
        schedule, is_own = self.lr_schedulers(), type(self).configure_optimizers is MNISTClassifier.configure_optimizers
        if not is_own or not isinstance(schedule, OneCycleLR):
            return
        group = schedule.optimizer.param_groups[0]
        if group["max_lr"] != self.hparams["lr"] or group["lr"] != schedule.get_last_lr()[0]:  # by LearningRateFinder
            self.trainer.strategy.setup_optimizers(self.trainer)
            return
        steps = self.trainer.estimated_stepping_batches
        if (schedule.last_epoch, schedule.total_steps) != (self.trainer.global_step, steps):
            raise UserError(
                f"the one_cycle of this run has {schedule.total_steps} steps, {schedule.last_epoch} of them done, and "
                f"this training would have {steps}, {self.trainer.global_step} of them done: continue from a "
                "checkpoint, and keep max_epochs and the number of batches (only a run with a constant schedule can be "
                "extended)"
            )

    def on_train_epoch_start(self) -> None:
        """Reset the training metrics."""
        self.train_metrics.reset()

    def on_train_epoch_end(self) -> None:
        """Log ``train_loss`` and ``train_acc``."""
        metrics = self.train_metrics.compute(self.trainer.strategy)
        # Already equal on all processes; sync_dist only prevents Lightning's warning.
        self.log_dict(metrics, prog_bar=True, sync_dist=True)

    @property
    def upright(self) -> nn.Module | None:
        """What makes training images upright, once, before they are distorted; None if a subclass has other steps."""
        own = [getattr(type(self), name) is getattr(MNISTClassifier, name) for name in ("forward", "training_step")]
        has_layer = isinstance(self.network, MLP) and self.hparams["upright"]
        return self.network.upright if has_layer and all(own) else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Turn ``upright`` off for the weights of a checkpoint without this option, which is older."""
        if "upright" not in checkpoint.get("hyper_parameters", {}) and isinstance(self.network, MLP):
            self.hparams["upright"] = False
            self.network.upright = nn.Identity()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the names of the classes: commands refuse checkpoints of classes whose options they do not have."""
        data = getattr(self.trainer, "datamodule", None)
        checkpoint["classes"] = {"model": type(self).__qualname__, "datamodule": data and type(data).__qualname__}

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log ``val_loss`` and ``val_acc``, and return the logits."""
        return self._evaluation_step(batch, "val", self.val_loss, self.val_acc)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log ``test_loss`` and ``test_acc``, and return the logits."""
        return self._evaluation_step(batch, "test", self.test_loss, self.test_acc)

    def _evaluation_step(self, batch: Batch, stage: str, mean_loss: MeanMetric, accuracy: MulticlassAccuracy) -> Tensor:
        images, labels = batch
        logits: Tensor = self(images)
        if len(labels):  # a process may have no images of a small last batch
            # In single precision: in half precision the mean of many losses would be imprecise.
            mean_loss.update(self.loss(logits.float(), labels), weight=len(labels))
            accuracy.update(logits, labels)
        self.log(f"{stage}_loss", mean_loss, prog_bar=True)
        self.log(f"{stage}_acc", accuracy, prog_bar=True)
        return logits

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the probabilities of the ten digits, float ``(N, 10)``."""
        images, _ = batch
        return torch.softmax(self(images), dim=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return SGD and its schedule; raise UserError if one_cycle cannot know the number of steps beforehand."""
        options = {name: self.hparams[name] for name in ("lr", "momentum", "nesterov", "weight_decay")}
        # Lightning cannot clip gradients of a fused optimizer, which is faster, in mixed precision.
        optimizer = torch.optim.SGD(self.parameters(), **options, fused=not self.trainer.gradient_clip_val)
        if self.hparams["schedule"] == "one_cycle":
            steps = self.trainer.estimated_stepping_batches
            if not 0 < steps < math.inf:
                raise UserError(
                    f"schedule one_cycle needs a number of steps that is above 0 and known beforehand, got {steps}: "
                    "it follows from max_epochs, max_steps and limit_train_batches; or set schedule constant"
                )
            # cycle_momentum would also change the momentum that the user set.
            one_cycle = OneCycleLR(optimizer, max_lr=options["lr"], total_steps=int(steps), cycle_momentum=False)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": one_cycle, "interval": "step", "name": "lr"}}
        constant = ConstantLR(optimizer, factor=1.0)  # changes nothing; LearningRateMonitor needs a scheduler
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": constant, "name": "lr"}}


class TrainMetrics:
    """Loss and accuracy over the steps of an epoch, measured on each batch before the weights are updated.

    Logits of 100 steps become counts at once: with ``self.log`` in each step an epoch would take 1.7 times as long.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []  # not in the sums yet
        self._losses: list[Tensor] = []
        self._correct = self._total = 0

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add this process's part of a step: its weighted loss ``()``, logits ``(N, 10)`` and labels ``(N,)``."""
        self._steps.append((loss.detach(), logits.detach(), labels))
        if len(self._steps) == 100:  # more small tensors, between large ones, would waste memory
            self._condense()

    def _condense(self) -> None:
        if self._steps:
            losses, logits, labels = zip(*self._steps, strict=True)
            hits = torch.cat(logits).argmax(dim=1) == torch.cat(labels)
            self._losses.append(torch.stack(losses))
            self._correct += int(hits.sum())
            self._total += len(hits)
            self._steps = []

    def compute(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return ``train_loss``, the mean over the steps, and ``train_acc``, the mean over the images.

        Every process must call this, because it reduces across processes, and only after at least one step.
        """
        self._condense()
        loss = strategy.reduce(torch.cat(self._losses).mean(), reduce_op="mean")
        counts = torch.tensor([self._correct, self._total], device=strategy.root_device)
        correct, total = strategy.reduce(counts, reduce_op="sum")
        return {"train_loss": loss, "train_acc": correct / total}
