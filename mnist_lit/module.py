"""The training of a network: loss, metrics, optimiser, learning rate."""

import math
from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy
from typing_extensions import override

from mnist_lit.checkpoints import PRETRAINED
from mnist_lit.datamodule import Batch
from mnist_lit.errors import UserError, check_range
from mnist_lit.network import MLP, Activation, Upright

Schedule = Literal["one_cycle", "constant"]


class Classifier(LightningModule):
    """A network that learns, with cross-entropy, to classify images; a subclass adds ``configure_optimizers``.

    Logs ``train_loss``, ``train_acc``, ``val_loss``, ``val_acc``, ``test_loss`` and ``test_acc`` once an epoch:
    cross-entropy in nats, ``train_loss`` the mean over the batches and the others over the images, and plain accuracy
    in [0, 1]. The training metrics are measured during training, while the network changes.

    Args:
        network: Takes a batch of images and returns logits, float ``(N, num_classes)``.
        num_classes: Number of classes; labels are int64 ``(N,)``, from 0 to ``num_classes - 1``.
    """

    def __init__(self, network: nn.Module, num_classes: int = 10) -> None:
        super().__init__()
        self.network = network
        self.metrics = nn.ModuleDict()
        for stage in "train", "val", "test":
            # NaN stays NaN: a network that diverged must not look good. "disable" would say so, but ignores weights.
            self.metrics[f"{stage}_loss"] = MeanMetric(nan_strategy=math.nan)
            self.metrics[f"{stage}_acc"] = MulticlassAccuracy(num_classes, average="micro")
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []  # that are not in the training metrics yet

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of ``images``, float ``(N, num_classes)``."""
        return cast(Tensor, self.network(images))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of the images in nats, ``()``; a subclass may return another mean over them."""
        return F.cross_entropy(logits, labels)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of the batch; with several processes, this process's part of that mean."""
        images, labels = batch
        logits = self(images)
        loss = self.loss(logits, labels) if self.trainer.world_size == 1 else self._part(logits, labels, batch_idx)
        self._steps.append((loss.detach(), logits.detach(), labels))
        if len(self._steps) == 100:  # at once: with self.log in each step an epoch would take 1.7 times as long
            self._count_steps()
        return loss

    def _part(self, logits: Tensor, labels: Tensor, batch_idx: int) -> Tensor:
        # DDP averages gradients over processes. Shares of our loader's batches can differ in size, so losses are
        # weighted by it, or be empty: the mean of no images is NaN, but the sum of no logits is 0, with gradients of 0.
        if not len(labels):
            return logits.sum()
        count = getattr(self.trainer.train_dataloader, "count", None)  # another loader's shares are of one size
        weight = len(labels) * self.trainer.world_size / count(batch_idx) if count else 1
        return self.loss(logits, labels) * weight

    def _metric(self, name: str) -> Metric:
        return cast(Metric, self.metrics[name])

    def _count_steps(self) -> None:
        if self._steps:
            losses, logits, labels = zip(*self._steps, strict=True)
            self._metric("train_loss").update(torch.stack(losses))
            self._metric("train_acc").update(torch.cat(logits), torch.cat(labels))
            self._steps = []

    @override
    def on_fit_start(self) -> None:
        self._steps = []  # of an epoch that was interrupted
        for metric in self.metrics.values():
            cast(Metric, metric).reset()  # in validate() it became an inference tensor, which fit() cannot update

    @override
    def on_train_epoch_end(self) -> None:
        self._count_steps()
        for name in "train_loss", "train_acc":
            if self._metric(name).update_called:  # not if a subclass has a training_step of its own
                self.log(name, self._metric(name), prog_bar=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log loss and accuracy, and return the logits."""
        return self._evaluation_step(batch, batch_idx, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log loss and accuracy, and return the logits."""
        return self._evaluation_step(batch, batch_idx, "test")

    def _evaluation_step(self, batch: Batch, batch_idx: int, stage: str) -> Tensor:
        images, labels = batch
        logits: Tensor = self(images)
        loss, acc = self._metric(f"{stage}_loss"), self._metric(f"{stage}_acc")
        if not batch_idx:  # the first batch of a loader, of which a subclass may have several
            loss.reset()
            acc.reset()
        if len(labels):  # a process may have no images of a small last batch
            loss.update(self.loss(logits, labels), weight=len(labels))
            acc.update(logits, labels)
        self.log_dict({f"{stage}_loss": loss, f"{stage}_acc": acc}, prog_bar=True)
        return logits

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the probabilities of the classes, float ``(N, num_classes)``."""
        return torch.softmax(self(batch[0]), dim=1)


class MNISTClassifier(Classifier):
    """An MLP trained with stochastic gradient descent.

    Args:
        hidden_sizes: Number of units of each hidden layer, each at least 1.
        activation: Activation function after each hidden layer.
        upright: Whether digits are made upright before the first layer; for images of other things, choose false.
        lr: Learning rate, above 0; with ``one_cycle`` its highest value.
        momentum: Momentum, at least 0 and below 1.
        nesterov: Whether the momentum is Nesterov's (Sutskever et al. 2013); needs a momentum above 0.
        weight_decay: L2 penalty on all parameters, at least 0.
        schedule: How the learning rate changes. ``one_cycle`` raises it for 30 % of the steps and lowers it to nearly 0
            (Smith and Topin 2018); ``constant`` keeps it.

    Raises:
        UserError: If an argument is out of range.
    """

    network: MLP

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
        hidden_sizes = list(hidden_sizes)
        super().__init__(MLP(hidden_sizes, activation, upright))
        lr = check_range("lr", lr, above=0)
        momentum = check_range("momentum", momentum, at_least=0, below=1)
        weight_decay = check_range("weight_decay", weight_decay, at_least=0)
        if nesterov and momentum == 0:
            raise UserError("nesterov needs a momentum above 0, got momentum 0: set nesterov to false")
        if schedule not in get_args(Schedule):
            raise UserError(f"schedule must be one of {', '.join(get_args(Schedule))}, got {schedule!r}")
        hidden_sizes = [int(size) for size in hidden_sizes]  # save_hyperparameters reads these variables
        self.save_hyperparameters()

    @classmethod
    def from_pretrained(cls) -> "MNISTClassifier":
        """Return the network of this package, trained with ``configs/best.yaml`` and drawn digits, on the CPU."""
        return cls.load_from_checkpoint(PRETRAINED, map_location="cpu", weights_only=True).float().eval()

    @property
    def upright(self) -> Upright | None:
        """The first layer, which has no weights: a loader may apply it once. None if a subclass has another forward."""
        is_own = type(self).forward is Classifier.forward and type(self.network).forward is MLP.forward
        return self.network.upright if is_own and isinstance(self.network.upright, Upright) else None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return SGD and its schedule; raise UserError if one_cycle cannot know the number of steps beforehand."""
        options = {name: self.hparams[name] for name in ("lr", "momentum", "nesterov", "weight_decay")}
        # Lightning cannot clip gradients of a fused optimizer, which is faster, in mixed precision.
        optimizer = torch.optim.SGD(self.parameters(), **options, fused=not self.trainer.gradient_clip_val)
        if self.hparams["schedule"] == "constant":
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < math.inf:
            raise UserError(
                f"schedule one_cycle needs a number of steps that is above 0 and known beforehand, got {steps}: "
                "it follows from max_epochs, max_steps and limit_train_batches; or set schedule constant"
            )
        # cycle_momentum would also change the momentum that the user set.
        one_cycle = OneCycleLR(optimizer, max_lr=options["lr"], total_steps=int(steps), cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": one_cycle, "interval": "step", "name": "lr"}}

    @override
    def on_train_start(self) -> None:
        schedule, is_own = self.lr_schedulers(), type(self).configure_optimizers is MNISTClassifier.configure_optimizers
        if not is_own or not isinstance(schedule, OneCycleLR):
            return
        done, steps = self.trainer.global_step, self.trainer.estimated_stepping_batches
        if not done:  # LearningRateFinder and BatchSizeFinder change what the schedule was made from
            self.trainer.strategy.setup_optimizers(self.trainer)
        elif (schedule.last_epoch, schedule.total_steps) != (done, steps):
            raise UserError(
                f"this run's one_cycle has {schedule.total_steps} steps, {schedule.last_epoch} of them done; it cannot "
                f"become one of {steps}, {done} of them done: resume with its config.yaml, or use a constant schedule"
            )
