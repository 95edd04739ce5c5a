"""Answers as a table and as CSV."""

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from mnist_lit.files import replacing
from mnist_lit.pictures.answers import Answer, numbers

PROBABILITIES = ("probability", *(f"p{digit}" for digit in range(10)))
"""Names of the columns of ``format_probabilities``."""

_COLUMNS = {"picture": "<", "digit": ">", "probability": ">", "number": "<", "left,top,right,bottom": "<", "": "<"}
_EDGES = ("left", "top", "right", "bottom")


def print_answers(answers: Mapping[Path, Sequence[Answer]]) -> None:
    """Print a table of the digits in pictures, a row for each, which is folded on a narrow terminal.

    Args:
        answers: The answers to each picture, at least one.
    """
    rows: list[tuple[str, ...]] = []
    for path, answer, number in _each(answers):
        # The probability of a non-digit means nothing.
        probability = "" if answer.refused else f"{100 * float(answer.probabilities.max()):.2f} %"
        box = ",".join(map(str, answer.detection.box))
        rows.append((printable(path), answer.digit, probability, number, box, answer.refused))
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name, side in _COLUMNS.items():
            is_long = name in ("picture", "number")  # only these are folded where the terminal is narrow
            table.add_column(name, justify="left" if side == "<" else "right", overflow="fold", no_wrap=not is_long)
        for row in rows:
            table.add_row(*map(Text, row))  # as text, a name is never taken for rich's markup
        Console().print(table)
        return
    texts = [tuple(_COLUMNS), *rows]
    # Neither the boxes nor the reasons are aligned, so that the lines stay short.
    widths = [max(len(text[column]) for text in texts) for column in range(4)] + [0, 0]
    for text in texts:
        cells = zip(text, _COLUMNS.values(), widths, strict=True)
        print("  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip())


def write_answers(answers: Mapping[Path, Sequence[Answer]], output: Path) -> None:
    """Write the digits in pictures as CSV, a row for each, with all ten probabilities.

    Args:
        answers: The answers to each picture.
        output: The file.

    Raises:
        OSError: If it cannot be written.
    """
    rows: list[list[object]] = []
    for path, answer, number in _each(answers):
        place = answer.detection.line, answer.detection.position, *answer.detection.box
        rows.append([path, *place, number, answer.digit, *format_probabilities(answer.probabilities)])
    write_csv(("path", "line", "position", *_EDGES, "number", "digit", *PROBABILITIES), rows, output)


def write_csv(header: Sequence[str], rows: Iterable[Sequence[object]], output: Path | None) -> None:
    """Write CSV to a file and print its name, or write it to the standard output.

    Raises:
        OSError: If the file cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    if output is None:
        print(text.getvalue(), end="")
        return
    with replacing(output) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape", newline="")
    print(f"Wrote {output}", file=sys.stderr)


def format_probabilities(probabilities: Tensor) -> list[str]:
    """Return the largest of ten probabilities and all ten, with four digits."""
    return [f"{float(p):.4f}" for p in (probabilities.max(), *probabilities)]


def printable(path: Path) -> str:
    """Return a path for the screen: the name of a stranger's file may have characters that a terminal would obey."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def _each(answers: Mapping[Path, Sequence[Answer]]) -> Iterable[tuple[Path, Answer, str]]:
    # Each digit with its picture and the number that it is a part of.
    for path, group in answers.items():
        lines = numbers(group)
        yield from ((path, answer, lines[answer.detection.line - 1]) for answer in group)
