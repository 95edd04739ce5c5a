"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

UNFINISHED = ".*.unfinished"
"""Pattern of the files that a killed process may leave behind."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the exact path of a file to write in the folder of ``path``, and rename it to ``path`` when it is written.

    So ``path`` is never half a file, even if several processes write it at once, and the previous file stays if writing
    fails. A killed process leaves its unfinished file behind. Missing folders are made. A device or a pipe, for example
    ``/dev/stdout``, is written directly.

    Raises:
        OSError: If it cannot be written, for example to a full disk; the message names ``path``.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    target = Path(os.path.realpath(path))  # the target of a link, not the link
    unfinished = target.with_name(f".{uuid4().hex}.unfinished")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
