"""Files that are written whole or not at all."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from mnist_lit.errors import UserError

UNFINISHED = ".*.unfinished"
"""Pattern of the files that a killed process may leave behind."""


def require_local(path: Path, option: str) -> Path:
    """Return ``path``.

    Raises:
        UserError: If it was made from a URL: as a path, this would create a local folder with a strange name.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise UserError(f"{option} {path}: a URL cannot be written to; name a local folder or file")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the exact path of a file to write in the folder of ``path``, and rename it to ``path`` when it is written.

    So ``path`` is never half a file, even if several processes write it at once, and the previous file stays if writing
    fails. A killed process leaves its unfinished file behind. Missing folders are made. A device or a pipe, for example
    ``/dev/stdout``, is written directly.

    Raises:
        UserError: If ``path`` was made from a URL.
        OSError: If it cannot be written, for example to a full disk; the message names ``path``.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        yield path
        return
    target = Path(os.path.realpath(require_local(path, "--output")))  # the target of a link, not the link
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
