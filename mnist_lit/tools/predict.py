"""Predictions for the test images as CSV."""

import csv
import io
import sys
from pathlib import Path

from torch import Tensor

from mnist_lit.files import replacing
from mnist_lit.pictures.table import format_probabilities


def write_predictions(probabilities: Tensor, output: Path | None) -> None:
    """Write the digit of each test image and its probabilities to a file, or print them.

    Args:
        probabilities: Float ``(N, classes)``.
        output: The file; None prints the rows.

    Raises:
        OSError: If the file cannot be written.
    """
    header = ("image", "digit", "probability", *(f"p{each}" for each in range(probabilities.shape[1])))
    rows = ([index, int(row.argmax()), *format_probabilities(row)] for index, row in enumerate(probabilities))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    if output is None:
        print(text.getvalue(), end="")
        return
    with replacing(output) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8", newline="")
    print(f"Wrote {output}", file=sys.stderr)
