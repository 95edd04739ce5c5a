"""The command ``read``, which prints the digits and numbers in pictures."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TextIO

from mnist_lit.checkpoints import Checkpoint, find_checkpoint
from mnist_lit.errors import UserError, check_range
from mnist_lit.files import replacing
from mnist_lit.pictures import Answer, draw_answers, read_digits, read_picture
from mnist_lit.pictures.picture import find_pictures
from mnist_lit.pictures.rejection import REJECT
from mnist_lit.pictures.table import AnswerWriter, printable


def read(
    pictures: Sequence[Path],
    ckpt_path: str = "pretrained",
    output: Path | None = None,
    show: Path | None = None,
    reject: float = REJECT,
) -> None:
    """Print the digits in each picture as soon as it is read, and an error if it cannot be read.

    Args:
        pictures: Files, and folders with all below.
        ckpt_path: Checkpoint: a file | a run's folder | best | last | pretrained
        output: CSV file for the answers (digits, boxes, all ten probabilities); - prints it instead of the table.
        show: Folder for the pictures with boxes and what the network sees.
        reject: Share of real digits that may be refused, at least 0 and below 1: a larger share also refuses more
            non-digits, which are answered with ?; 0 refuses nothing.

    Raises:
        UserError: If there is no file, no checkpoint, or an option cannot be used.
        OSError: If a result cannot be written.
        SystemExit: With status 1 if a picture could not be read.
    """
    if show and show.exists() and not show.is_dir():
        raise UserError(f"--show {show}: a file has that name, and a folder is needed")
    if output and output.is_dir():
        raise UserError(f"--output {output}: a folder has that name, and a file is needed")
    check_range("--reject", reject, at_least=0, below=1)
    is_printed = str(output) == "-"
    paths = find_pictures(pictures, None if is_printed else output, show)
    checkpoint = find_checkpoint(ckpt_path)
    network = Checkpoint(checkpoint).network()
    print(f"Checkpoint: {checkpoint}", file=sys.stderr)
    answered = 0
    with _open(output) as file:
        width = min(40, max(len(printable(path)) for path in paths))  # a longer name widens its own row alone
        writer = AnswerWriter(width, file)
        for path in paths:
            answers: list[Answer] = []
            reason = ""
            try:
                picture = read_picture(path)
                if picture.info["is_first_of_several"]:
                    print(f"{printable(path)}: the first of several pictures in this file was read", file=sys.stderr)
                answers = read_digits(picture, network, reject)
                answered += 1
            except (OSError, UserError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                print(f"error: {printable(path)}: {reason}", file=sys.stderr)
            if show and answers:
                name = f"{answered:03}_{path.stem[:50]}.png"  # a name may have 255 bytes, a character up to 4
                with replacing(show / name) as unfinished:
                    draw_answers(picture, answers).save(unfinished, "PNG")
            writer.write(path, answers, reason)
    if output and not is_printed:
        print(f"Wrote {output}", file=sys.stderr)
    if answered < len(paths):
        sys.exit(1)


def _open(output: Path | None) -> AbstractContextManager[TextIO | None]:
    if output is None:
        return nullcontext()
    if str(output) == "-":
        return nullcontext(sys.stdout)
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.open("w", encoding="utf-8", errors="surrogateescape", newline="")
