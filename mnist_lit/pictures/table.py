"""Answers as a table and as CSV, picture by picture."""

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from torch import Tensor

from mnist_lit.pictures.answers import Answer, numbers

_PLACE = ("line", "position", "left", "top", "right", "bottom")
_CSV_HEADER = ("path", *_PLACE, "number", "digit", "probability", *(f"p{digit}" for digit in range(10)), "reason")
_TABLE_HEADER = ("picture", "digit", "probability", "number", "left,top,right,bottom", "")


class AnswerWriter:
    """Prints digits as a table, and writes them as CSV, picture by picture.

    Args:
        width: Width of the table's first column.
        file: For CSV, whose header is written at once; None for no CSV. The standard output takes the table's place.
    """

    def __init__(self, width: int, file: TextIO | None) -> None:
        self._width, self._file = width, file
        self._has_header = False
        if file:
            self._write_csv([_CSV_HEADER], file)

    def write(self, path: Path, answers: Sequence[Answer], reason: str) -> None:
        """Write a row for each digit in a picture, or a CSV row with the reason if there are no digits.

        Raises:
            OSError: If the file cannot be written.
        """
        rows: list[Sequence[object]] = []
        table: list[Sequence[str]] = []
        lines = numbers(answers)
        for answer in answers:
            line, position, box = answer.detection.line, answer.detection.position, answer.detection.box
            # The probabilities of a non-digit mean nothing.
            probabilities = [""] * 11 if answer.refused else format_probabilities(answer.probabilities)
            number = lines[line - 1]
            rows.append([path, line, position, *box, number, answer.digit, *probabilities, answer.refused])
            edges = ",".join(map(str, box))
            table.append([printable(path), answer.digit, answer.percent, number, edges, answer.refused])
        if self._file:
            self._write_csv(rows or [[path, *[""] * (len(_CSV_HEADER) - 2), reason]], self._file)
        if self._file is not sys.stdout:
            self._print(table)

    def _print(self, table: Sequence[Sequence[str]]) -> None:
        if table and not self._has_header:
            self._has_header = True
            table = [_TABLE_HEADER, *table]
        for path, digit, probability, number, edges, reason in table:
            line = f"{path:<{self._width}}  {digit:>5}  {probability:>11}  {number:<10}  {edges}  {reason}"
            print(line.rstrip(), flush=True)

    def _write_csv(self, rows: Iterable[Sequence[object]], file: TextIO) -> None:
        csv.writer(file, lineterminator="\n").writerows(rows)
        file.flush()  # a killed command keeps these rows


def format_probabilities(probabilities: Tensor) -> list[str]:
    """Return the largest of ten probabilities and all ten, with four digits."""
    return [f"{float(p):.4f}" for p in (probabilities.max(), *probabilities)]


def printable(path: Path) -> str:
    """Return a path for the screen: a file's name may have control characters, which a terminal would execute."""
    return str(path) if str(path).isprintable() else ascii(str(path))
