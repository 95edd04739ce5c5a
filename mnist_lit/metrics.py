"""The metrics of the training steps."""

import torch
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor


class TrainMetrics:
    """Loss and accuracy over the steps of an epoch, measured on each step's batch before the step was made.

    Kept here and logged at the end of the epoch: ``self.log`` in each step would make an epoch 1.7 times as long. After
    a continuation within an epoch they still cover the whole epoch.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a new epoch."""
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []  # those that are not counted yet
        self._losses: list[Tensor] = []  # of the steps that are counted
        self._correct: Tensor | int = 0  # images in these steps
        self._total = 0

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
            correct = torch.cat(logits).argmax(dim=1) == torch.cat(labels)
            self._correct = correct.sum() + self._correct
            self._total += len(correct)
            self._steps.clear()

    def reduced_state(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return the losses of the steps, and how many images were right and how many there were, over all processes.

        Every process must call this, since they exchange what they have. There must have been a step.
        """
        self._count()
        device = strategy.root_device
        losses = torch.cat([each.to(device) for each in self._losses])
        counts = torch.stack([torch.as_tensor(each, device=device) for each in (self._correct, self._total)])
        return {
            "losses": strategy.reduce(losses, reduce_op="mean"),
            "counts": strategy.reduce(counts, reduce_op="sum"),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue an epoch from its ``reduced_state``."""
        self.reset()
        self._losses.append(state["losses"])
        if getattr(rank_zero_only, "rank", 0) == 0:  # the counts are those of all processes: the others begin at 0
            self._correct, self._total = map(int, state["counts"])

    def compute(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return ``train_loss``, the mean over the steps, and ``train_acc``, that over the images."""
        state = self.reduced_state(strategy)
        correct, total = state["counts"]
        return {"train_loss": state["losses"].mean(), "train_acc": correct / total}

    @property
    def is_empty(self) -> bool:
        """Whether there has been no step."""
        return not (self._steps or self._losses)
