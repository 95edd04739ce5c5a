"""The command ``read``, which prints the digits and numbers in pictures."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from mnist_lit.errors import UserError
from mnist_lit.files import find_checkpoint, read_checkpoint, replacing, require_local
from mnist_lit.pictures import Answer, draw_answers, read_digits, read_picture
from mnist_lit.pictures.picture import find_pictures
from mnist_lit.pictures.rejection import REJECT
from mnist_lit.pictures.table import printable, write_answers


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)  # printed as one sentence, without argparse's usage


def read(arguments: Sequence[str], description: str) -> None:
    """Print the digits in pictures, and then an error for each picture that cannot be read.

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
    parser.add_argument("--output", type=Path, help="CSV file for the digits, their boxes and all ten probabilities.")
    parser.add_argument("--show", type=Path, help="Folder for the pictures with boxes and what the network sees.")
    parser.add_argument(
        "--reject",
        type=float,
        default=REJECT,
        help="Share of real digits that may be refused, at least 0 and below 1 (default %(default)s): a larger share "
        "also refuses more non-digits, which are answered with ?; 0 refuses nothing.",
    )
    options = parser.parse_args(arguments)
    show: Path | None = options.show
    if show and require_local(show, "--show").exists() and not show.is_dir():
        raise UserError(f"--show {show}: a file has that name, and a folder is needed")
    if options.output and require_local(options.output, "--output").is_dir():
        raise UserError(f"--output {options.output}: a folder has that name, and a file is needed")
    if not 0 <= options.reject < 1:
        raise UserError(f"--reject must be at least 0 and below 1, got {options.reject}")
    pictures = find_pictures(options.pictures, options.output, show)
    checkpoint = find_checkpoint(options.ckpt_path, Path())
    network = read_checkpoint(checkpoint).network()
    print(f"Checkpoint: {checkpoint}", file=sys.stderr)
    answers: dict[Path, list[Answer]] = {}
    failures: dict[Path, str] = {}
    for path in tqdm(pictures, disable=None, leave=False):  # a bar only on a terminal
        try:
            picture = read_picture(path)
            answers[path] = read_digits(picture, network, options.reject)
        except (OSError, UserError) as error:
            failures[path] = getattr(error, "strerror", None) or str(error)
            continue
        if show:
            name = f"{len(answers):03}_{path.stem[:50]}.png"  # a file's name may have 255 bytes, a character up to 4
            with replacing(show / name) as unfinished:
                draw_answers(picture, answers[path]).save(unfinished, "PNG")
    if answers:
        write_answers(answers, options.output)
    for path, reason in failures.items():
        print(f"error: {printable(path)}: {reason}", file=sys.stderr)
    if failures:
        sys.exit(1)
