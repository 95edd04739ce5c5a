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

_HEADER = ("path", "line", "position", "left", "top", "right", "bottom", "number", "digit", *PROBABILITIES)
_COLUMNS = {"picture": "<", "digit": ">", "probability": ">", "number": "<", "left,top,right,bottom": "<", "": "<"}


def write_answers(answers: Mapping[Path, Sequence[Answer]], output: Path | None = None) -> None:
    """Print a table of the digits in pictures, and write CSV with all ten probabilities to ``output``.

    Args:
        answers: The answers for each picture, at least one.
        output: The file; None writes no file.

    Raises:
        OSError: If the file cannot be written.
    """
    table: list[tuple[str, ...]] = []
    rows: list[list[object]] = []
    for path, group in answers.items():
        lines = numbers(group)
        for answer in group:
            number, box = lines[answer.detection.line - 1], answer.detection.box
            # The probability of a non-digit means nothing.
            probability = "" if answer.refused else f"{100 * float(answer.probabilities.max()):.2f} %"
            edges = ",".join(map(str, box))
            table.append((printable(path), answer.digit, probability, number, edges, answer.refused))
            place = answer.detection.line, answer.detection.position, *box
            rows.append([path, *place, number, answer.digit, *format_probabilities(answer.probabilities)])
    _print(table)
    if output:
        write_csv(_HEADER, rows, output)


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
    """Return a path for the screen: a file's name may have control characters, which a terminal would execute."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def _print(table: Sequence[tuple[str, ...]]) -> None:
    if not sys.stdout.isatty():
        texts = [tuple(_COLUMNS), *table]
        # Neither the boxes nor the reasons are aligned, so that the lines stay short.
        widths = [max(len(text[column]) for text in texts) for column in range(4)] + [0, 0]
        for text in texts:
            cells = zip(text, _COLUMNS.values(), widths, strict=True)
            print("  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip())
        return
    from rich.console import Console  # imported for a terminal only
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, side in _COLUMNS.items():
        shown.add_column(name, justify="left" if side == "<" else "right", overflow="fold")
    for row in table:
        shown.add_row(*map(Text, row))  # as text, a name is never taken for rich's markup
    Console().print(shown)
