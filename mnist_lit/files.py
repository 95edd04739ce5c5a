"""Files that are written whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a file to write beside ``path``, and move it to ``path`` when it is written.

    The name of ``path`` never stands for half a file, and what was there stays if the writing fails. What a process
    leaves unfinished that is killed, the next one overwrites. Folders are made where they are missing. A device or a
    pipe, ``/dev/stdout`` for one, is written itself.

    Raises:
        OSError: If it cannot be written, on a full disk for one; it names ``path``.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        yield path
        return
    target = path.resolve()  # what a link points at, not the link
    unfinished = target.with_name(f".{target.name}.unfinished")
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
