"""Checkpoint files that are written whole or not at all."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Trainer

from mnist_lit.errors import UserError
from mnist_lit.files import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under another name in its folder and renames it, so that it is never half a file.

    Lightning's plugin writes it into the folder for temporary files. If this is on another file system, the move is a
    copy, which can be interrupted.
    """

    _checked = False  # whether a saved checkpoint could be loaded

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save ``checkpoint`` as ``path``.

        Raises:
            OSError: If it cannot be written, for example to a full disk; the previous file stays.
            UserError: If it holds more than tensors and plain values, for example in a hyperparameter.
        """
        path = Path(path)
        try:
            with replacing(path) as unfinished:
                with unfinished.open("wb") as file:
                    torch.save(checkpoint, file)
                if not self._checked:
                    self.load_checkpoint(unfinished)
                    self._checked = True
        except pickle.UnpicklingError as error:
            kind = re.search(r"GLOBAL (\S+)", str(error))
            raise UserError(
                f"{path} was not saved: it holds a {kind[1] if kind else 'program'}, and only tensors and plain values "
                "can be loaded again"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = lambda storage, _: storage, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Load a checkpoint; refuse one with more than tensors and plain values, whatever ``weights_only`` is."""
        return super().load_checkpoint(path, map_location, weights_only=True)


def use_whole_files(trainer: Trainer) -> None:
    """Let ``trainer`` save with ``AtomicCheckpointIO``, unless the user chose another plugin."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
