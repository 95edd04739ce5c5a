"""Predictions for the test images as CSV."""

import sys
from pathlib import Path

from torch import Tensor

from mnist_lit.files import replacing
from mnist_lit.pictures.table import format_probabilities


def write_predictions(probabilities: Tensor, output: Path | None) -> None:
    """Write the digit of each test image and its probabilities ``(N, classes)`` to a file, or print them if it is None.

    Raises:
        OSError: If the file cannot be written.
    """
    header = ["image", "digit", "probability", *(f"p{each}" for each in range(probabilities.shape[1]))]
    rows = [[str(index), str(int(row.argmax())), *format_probabilities(row)] for index, row in enumerate(probabilities)]
    text = "".join(f"{','.join(row)}\n" for row in [header, *rows])
    if output is None:
        print(text, end="")
        return
    with replacing(output) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")
    print(f"Wrote {output}", file=sys.stderr)
