"""Files that are written whole or not at all, and read only if they are whole."""

import errno
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from mnist_lit.errors import UserError

UNFINISHED = ".*.unfinished"
"""Pattern of the files that a killed process may leave behind."""


def require_local(path: Path, option: str) -> Path:
    """Return ``path``.

    Raises:
        UserError: If it was made from a URL, of which a local folder with a strange name would be made.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise UserError(f"{option} {path}: a URL cannot be written to; name a local folder or file")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a file to write beside ``path``, exactly this name, and move it to ``path`` when it is written.

    The name of ``path`` never stands for half a file, also when several processes write it at once, and what was there
    stays if the writing fails. A killed process leaves its unfinished file behind. Folders are made where they are
    missing. A device or a pipe, ``/dev/stdout`` for one, is written itself.

    Raises:
        UserError: If ``path`` was made from a URL.
        OSError: If it cannot be written, on a full disk for one; it names ``path``.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        yield path
        return
    target = Path(os.path.realpath(require_local(path, "--output")))  # what a link points at, not the link
    unfinished = target.with_name(f".{uuid4().hex}.unfinished")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(target)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch's zip writer was cut short
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror or str(cause), str(path)) from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def load_whole(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU, without running anything in it.

    Raises:
        UserError: If it cannot be read, is not whole, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch.load does not compare the checksums
                raise UserError(damaged(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever a file that is no checkpoint makes torch raise
        raise UserError(damaged(path)) from error
    if not isinstance(content, dict):
        raise UserError(damaged(path))
    return content


def damaged(path: Path) -> str:
    """Return what to say of a file that is no checkpoint of this package."""
    return f"{path} is not a checkpoint of mnist_lit, or it is damaged"
