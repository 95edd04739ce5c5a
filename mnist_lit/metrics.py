"""The metrics of the training steps."""

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor


class TrainMetrics:
    """Loss and accuracy over the steps of an epoch, measured on each step's batch before the step was made.

    Logged at the end of the epoch: ``self.log`` in each step would make an epoch 1.7 times as long.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self, losses: Tensor | None = None, correct: int = 0, total: int = 0) -> None:
        """Begin a new epoch, or go on in one.

        Args:
            losses: Loss of each step so far, float ``(steps,)``.
            correct: How many images of these steps were right.
            total: How many images these steps had.
        """
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []  # those that are not counted yet
        self._losses = [] if losses is None else [losses]  # of the steps that are counted
        self._correct: Tensor | int = correct
        self._total = total

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a step of this process: its logits ``(N, 10)``, its labels ``(N,)`` and its loss.

        The mean of the losses of all processes is the batch's loss.
        """
        self._steps.append((loss.detach(), logits.detach(), labels))
        if len(self._steps) == 100:  # 100 steps counted at once take as long as 3 counted singly
            self._count()

    def _count(self) -> None:
        if self._steps:
            losses, logits, labels = (list(values) for values in zip(*self._steps, strict=True))
            self._losses.append(torch.stack(losses))
            hits = torch.cat(logits).argmax(dim=1) == torch.cat(labels)
            self._correct = hits.sum() + self._correct
            self._total += len(hits)
            self._steps.clear()

    def totals(self, strategy: Strategy) -> tuple[Tensor, Tensor]:
        """Return the losses of the steps, and how many images were right and how many there were, over all processes.

        Every process must call this, since they exchange what they have. There must have been a step.
        """
        self._count()
        device = strategy.root_device
        losses = torch.cat([each.to(device) for each in self._losses])
        counts = torch.stack([torch.as_tensor(each, device=device) for each in (self._correct, self._total)])
        return strategy.reduce(losses, reduce_op="mean"), strategy.reduce(counts, reduce_op="sum")

    def compute(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return ``train_loss``, the mean over the steps, and ``train_acc``, the mean over the images."""
        losses, (correct, total) = self.totals(strategy)
        return {"train_loss": losses.mean(), "train_acc": correct / total}
