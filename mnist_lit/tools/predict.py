"""Predictions for the test images as CSV."""

from pathlib import Path

from torch import Tensor

from mnist_lit.pictures.table import format_probabilities, write_csv


def write_predictions(probabilities: Tensor, output: Path | None) -> None:
    """Write the digit of each test image and its probabilities to a file, or print them.

    Args:
        probabilities: Float ``(N, classes)``.
        output: The file; None prints the rows.

    Raises:
        OSError: If the file cannot be written.
    """
    rows = [[index, int(row.argmax()), *format_probabilities(row)] for index, row in enumerate(probabilities)]
    write_csv(("image", "digit", "probability", *(f"p{each}" for each in range(probabilities.shape[1]))), rows, output)
