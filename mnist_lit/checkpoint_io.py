"""Checkpoint files that are written whole or not at all."""

import io
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from mnist_lit.errors import UserError
from mnist_lit.files import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under another name in its folder and renames it, so that it is never half a file.

    Lightning's plugin writes it into the folder for temporary files. If this is on another file system, the move is a
    copy, which can be interrupted.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save ``checkpoint`` as ``path``.

        Raises:
            OSError: If it cannot be written, for example to a full disk; the previous file stays.
            UserError: If it holds more than tensors and plain values, for example in a hyperparameter.
        """
        try:
            torch.save(checkpoint, content := io.BytesIO())
            torch.load(io.BytesIO(content.getbuffer()), map_location="cpu", weights_only=True)
        except (AttributeError, TypeError, pickle.PickleError) as error:  # the first two: of a local class, of a lock
            kind = re.search(r"GLOBAL (\S+)", str(error))
            raise UserError(
                f"{path} was not saved: it holds more than tensors and plain values, which alone can be loaded again: "
                f"{kind[1] if kind else error}"
            ) from error
        with replacing(Path(path)) as unfinished:
            unfinished.write_bytes(content.getbuffer())
