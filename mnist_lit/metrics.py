"""The metrics of the training steps."""

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor


class TrainMetrics:
    """Loss and accuracy over the steps of an epoch, measured on each batch before the weights are updated.

    Results are kept and reduced once, at the end of the epoch: with ``self.log`` in each step an epoch would take 1.7
    times as long.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self.resume(torch.empty(0), correct=0, total=0)

    def resume(self, losses: Tensor, correct: int, total: int) -> None:
        """Continue an epoch whose earlier steps had ``losses`` and ``correct`` of ``total`` images."""
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []
        self._earlier = losses, correct, total

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add this process's part of a step: its weighted loss ``()``, logits ``(N, 10)`` and labels ``(N,)``."""
        self._steps.append((loss.detach(), logits.detach(), labels))

    def totals(self, strategy: Strategy) -> tuple[Tensor, Tensor]:
        """Return the losses of the steps, ``(steps,)``, and the numbers of correct images and of all images, ``(2,)``.

        Every process must call this, because it reduces across processes, and only after at least one step.
        """
        losses, correct, total = self._earlier
        losses = losses.to(strategy.root_device)
        if self._steps:
            step_losses, logits, labels = zip(*self._steps, strict=True)
            hits = torch.cat(logits).argmax(dim=1) == torch.cat(labels)
            losses = torch.cat((losses, torch.stack(step_losses)))
            correct, total = correct + int(hits.sum()), total + len(hits)
        counts = torch.tensor([correct, total], device=strategy.root_device)
        return strategy.reduce(losses, reduce_op="mean"), strategy.reduce(counts, reduce_op="sum")

    def compute(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return ``train_loss``, the mean over the steps, and ``train_acc``, the mean over the images."""
        losses, (correct, total) = self.totals(strategy)
        return {"train_loss": losses.mean(), "train_acc": correct / total}
