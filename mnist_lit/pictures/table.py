"""Answers as a table and as CSV, picture by picture."""

import csv
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from torch import Tensor

from mnist_lit.pictures.answers import Answer, numbers

_PLACE = ("line", "position", "left", "top", "right", "bottom")
_CSV_HEADER = ("path", *_PLACE, "number", "digit", "probability", *(f"p{digit}" for digit in range(10)), "reason")
_TABLE_HEADER = ("picture", "digit", "probability", "number", "left,top,right,bottom", "")


class AnswerWriter(ExitStack):
    """Prints digits as a table and writes them as CSV, picture by picture; a context, which closes the CSV file.

    Args:
        width: Width of the table's first column.
        output: The CSV file, created or replaced when the first picture is written; ``-`` prints CSV instead of the
            table; None writes no CSV.
    """

    def __init__(self, width: int, output: Path | None) -> None:
        super().__init__()
        self._width, self._output = width, output
        self._file: TextIO | None = None
        self._has_header = False

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
            percent = "" if answer.refused else f"{100 * float(answer.probabilities.max()):.2f} %"
            table.append([printable(path), answer.digit, percent, number, ",".join(map(str, box)), answer.refused])
        if self._output:
            self._write_csv(self._output, rows or [[path, *[""] * (len(_CSV_HEADER) - 2), reason]])
        if str(self._output) != "-":
            self._print(table)

    def _print(self, table: Sequence[Sequence[str]]) -> None:
        if table and not self._has_header:
            self._has_header = True
            table = [_TABLE_HEADER, *table]
        for path, digit, probability, number, edges, reason in table:
            line = f"{path:<{self._width}}  {digit:>5}  {probability:>11}  {number:<10}  {edges}  {reason}"
            print(line.rstrip(), flush=True)

    def _write_csv(self, output: Path, rows: Sequence[Sequence[object]]) -> None:
        if self._file is None:
            if str(output) == "-":
                self._file = sys.stdout
            else:
                output.parent.mkdir(parents=True, exist_ok=True)
                file = output.open("w", encoding="utf-8", errors="surrogateescape", newline="")
                self._file = self.enter_context(file)
            rows = [_CSV_HEADER, *rows]
        csv.writer(self._file, lineterminator="\n").writerows(rows)
        self._file.flush()


def format_probabilities(probabilities: Tensor) -> list[str]:
    """Return the largest of ten probabilities and all ten, with four digits."""
    return [f"{float(p):.4f}" for p in (probabilities.max(), *probabilities)]


def printable(path: Path) -> str:
    """Return a path for the screen: a file's name may have control characters, which a terminal would execute."""
    return str(path) if str(path).isprintable() else ascii(str(path))
