"""Checkpoint files that are written whole or not at all."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from torch.serialization import get_unsafe_globals_in_checkpoint

from mnist_lit.errors import UserError
from mnist_lit.files import replacing


def to_bytes(checkpoint: dict[str, Any], name: str) -> io.BytesIO:
    """Return the content of a checkpoint's file; raise UserError if it holds more than tensors and plain values."""
    content = io.BytesIO()
    try:
        torch.save(checkpoint, content)
        content.seek(0)
        others: list[Any] = get_unsafe_globals_in_checkpoint(content)
    except (AttributeError, TypeError, pickle.PickleError) as error:  # the first two: of a local class, of a lock
        others = [error]
    if others:
        only = "more than tensors and plain values, which alone can be loaded again"
        raise UserError(f"{name} cannot be saved: it holds {only}: {others[0]}")
    return content


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
        content = to_bytes(checkpoint, str(path))
        with replacing(Path(path)) as unfinished:
            unfinished.write_bytes(content.getbuffer())
