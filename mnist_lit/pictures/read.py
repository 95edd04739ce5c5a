"""The command ``read``, which prints the digits and numbers in pictures."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn, TextIO

from mnist_lit.errors import UserError
from mnist_lit.files import find_checkpoint, read_checkpoint, replacing, require_local
from mnist_lit.pictures import Answer, draw_answers, read_digits, read_picture
from mnist_lit.pictures.picture import find_pictures
from mnist_lit.pictures.rejection import REJECT
from mnist_lit.pictures.table import AnswerWriter, printable


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)  # printed as one sentence, without argparse's usage


def read(arguments: Sequence[str], description: str) -> None:
    """Print the digits in each picture as soon as it is read, and an error if it cannot be read.

    Args:
        arguments: The command's arguments, as ``--help`` lists them.
        description: What the command does, in one sentence.

    Raises:
        argparse.ArgumentError: If an argument is missing, unknown or of the wrong type.
        UserError: If there is no file, no checkpoint, or an option cannot be used.
        OSError: If a result cannot be written.
        SystemExit: With status 1 if a picture could not be read.
    """
    parser = _Parser(prog="python -m mnist_lit read", description=description)
    parser.add_argument("pictures", metavar="PICTURES", type=Path, nargs="+", help="Files, and folders with all below.")
    parser.add_argument(
        "--ckpt_path",
        default="pretrained",
        help="Checkpoint of the network: a file, a run's folder, best or last of the newest run, or pretrained "
        "(default %(default)s), which comes with the package.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="CSV file for the digits, their boxes and all ten probabilities; - prints it instead of the table.",
    )
    parser.add_argument("--show", type=Path, help="Folder for the pictures with boxes and what the network sees.")
    parser.add_argument(
        "--reject",
        type=float,
        default=REJECT,
        help="Share of real digits that may be refused, at least 0 and below 1 (default %(default)s): a larger share "
        "also refuses more non-digits, which are answered with ?; 0 refuses nothing.",
    )
    options = parser.parse_args(arguments)
    output: Path | None = options.output
    show: Path | None = options.show
    if show and require_local(show, "--show").exists() and not show.is_dir():
        raise UserError(f"--show {show}: a file has that name, and a folder is needed")
    if output and require_local(output, "--output").is_dir():
        raise UserError(f"--output {output}: a folder has that name, and a file is needed")
    if not 0 <= options.reject < 1:
        raise UserError(f"--reject must be at least 0 and below 1, got {options.reject}")
    is_printed = str(output) == "-"
    pictures = find_pictures(options.pictures, None if is_printed else output, show)
    checkpoint = find_checkpoint(options.ckpt_path, Path())
    network = read_checkpoint(checkpoint).network()
    print(f"Checkpoint: {checkpoint}", file=sys.stderr)
    answered = 0
    with _open(output) as file:
        writer = AnswerWriter(max(len(printable(path)) for path in pictures), file)
        for path in pictures:
            answers: list[Answer] = []
            reason = ""
            try:
                picture = read_picture(path)
                if picture.info["is_first_of_several"]:
                    print(f"{printable(path)}: the first of several pictures in this file was read", file=sys.stderr)
                answers = read_digits(picture, network, options.reject)
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
    if answered < len(pictures):
        sys.exit(1)


def _open(output: Path | None) -> AbstractContextManager[TextIO | None]:
    if output is None:
        return nullcontext()
    if str(output) == "-":
        return nullcontext(sys.stdout)
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.open("w", encoding="utf-8", errors="surrogateescape", newline="")
