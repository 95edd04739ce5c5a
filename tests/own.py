"""A network and loaders that share no code with the package, as its users have them."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import MNIST
from torchvision.transforms import v2

Schedule = Literal["none", "one cycle", "plateau"]


class OwnCNN(LightningModule):
    """A small CNN with dropout and batch normalisation, and with other names of metrics."""

    def __init__(self, schedule: Schedule = "none") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 5, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(576, 10)
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/acc", (self.layers(batch[0]).argmax(dim=1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
        if self.hparams["schedule"] == "one cycle":
            steps = int(self.trainer.estimated_stepping_batches)
            cycle = OneCycleLR(optimizer, 1e-2, total_steps=steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
        if self.hparams["schedule"] == "plateau":
            plateau = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0)
            schedule = {"scheduler": plateau, "monitor": "val/acc", "strict": False}
            return {"optimizer": optimizer, "lr_scheduler": schedule}
        return optimizer


def own_loaders(data_dir: Path, workers: int = 0, generator: torch.Generator | None = None) -> tuple[Any, Any]:
    """Return torch's loaders: 12 shuffled batches of rotated images, and 4 for validation."""
    rotated = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.RandomRotation(20)])
    plain = v2.Compose(rotated.transforms[:2])
    images, others = (MNIST(data_dir, transform=transform) for transform in (rotated, plain))
    context = "fork" if workers else None  # in a process that was itself started otherwise
    train = DataLoader(
        Subset(images, range(600)), 50, True, num_workers=workers, generator=generator, multiprocessing_context=context
    )
    return train, DataLoader(Subset(others, range(600, 800)), 50)
