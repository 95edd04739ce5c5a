"""The metrics of the training steps."""

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor


class TrainMetrics:
    """Loss and accuracy over the steps of an epoch, measured on each step's batch before the step was made.

    The steps are only kept, and counted at the end of the epoch: ``self.log`` in each would make it 1.7 times as long.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self, losses: Tensor | None = None, correct: int = 0, total: int = 0) -> None:
        """Begin an epoch, or go on in one after steps with these losses and ``correct`` of ``total`` images right."""
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []
        self._before = torch.empty(0) if losses is None else losses, correct, total

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a step of this process: its logits ``(N, 10)``, its labels ``(N,)`` and its share of the batch's loss."""
        self._steps.append((loss.detach(), logits.detach(), labels))

    def totals(self, strategy: Strategy) -> tuple[Tensor, Tensor]:
        """Return the losses of the steps, ``(steps,)``, and the numbers of right images and of all images, ``(2,)``.

        Every process must call this, since they exchange them. There must have been a step.
        """
        losses, correct, total = self._before
        losses = losses.to(strategy.root_device)
        if self._steps:
            step_losses, logits, labels = (list(values) for values in zip(*self._steps, strict=True))
            hits = torch.cat(logits).argmax(dim=1) == torch.cat(labels)
            losses = torch.cat((losses.to(step_losses[0]), torch.stack(step_losses)))
            correct, total = correct + int(hits.sum()), total + len(hits)
        counts = torch.tensor([correct, total], device=strategy.root_device)
        return strategy.reduce(losses, reduce_op="mean"), strategy.reduce(counts, reduce_op="sum")

    def compute(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return ``train_loss``, the mean over the steps, and ``train_acc``, the mean over the images."""
        losses, (correct, total) = self.totals(strategy)
        return {"train_loss": losses.mean(), "train_acc": correct / total}
