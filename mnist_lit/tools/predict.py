"""Predictions for the test images as CSV."""

import sys
from pathlib import Path
from typing import cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor

from mnist_lit.errors import UserError
from mnist_lit.files import replacing
from mnist_lit.pictures.table import format_probabilities


def predict(
    trainer: Trainer, model: LightningModule, datamodule: LightningDataModule, output: Path | None = None
) -> None:
    """Print which class each test image has, or write it to a file, with the probabilities of all classes, as CSV.

    Args:
        output: CSV file for the predictions and all ten probabilities.

    Raises:
        UserError: If there are no predictions, or ``predict_step`` returns something else than probabilities.
    """
    batches = cast(list[Tensor] | None, trainer.predict(model, datamodule=datamodule))
    if not batches:
        why = "--trainer.limit_predict_batches is 0, or --trainer.strategy forks or spawns processes, which return none"
        raise UserError(f"there are no predictions: {why}")
    if not all(isinstance(batch, Tensor) and batch.ndim == 2 for batch in batches):
        raise UserError("predict_step must return the probabilities, float (N, num_classes), to be written as CSV")
    if not trainer.is_global_zero:
        return
    probabilities = torch.cat(batches)
    header = ["image", "digit", "probability", *(f"p{each}" for each in range(probabilities.shape[1]))]
    rows = [[str(index), str(int(row.argmax())), *format_probabilities(row)] for index, row in enumerate(probabilities)]
    text = "".join(f"{','.join(row)}\n" for row in [header, *rows])
    if output is None or str(output) == "-":
        print(text, end="")
        return
    with replacing(output) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")
    print(f"Wrote {output}", file=sys.stderr)
