"""Predictions of one's own pictures, and predictions as a table or CSV."""

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from mnist_lit.errors import UserError
from mnist_lit.files import replacing, require_local
from mnist_lit.tools.preprocess import preprocess, read_picture

_SHOWN_SIZE = 280  # pixels


def find_pictures(paths: Iterable[Path], output: Path | None = None, show: Path | None = None) -> list[Path]:
    """Return the files among ``paths`` and in the folders among them and below, each once, without hidden ones.

    Args:
        paths: Files and folders.
        output: A file that is left out: what was written before.
        show: A folder that is left out.

    Raises:
        UserError: If there is no file, one of ``paths`` is ``output``, or all are in ``show``.
    """
    written = {path.resolve() for path in (output, show) if path}
    pictures: list[Path] = []
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                is_hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
                is_written = not written.isdisjoint([file.resolve(), *file.resolve().parents])
                if file.is_file() and not is_hidden and not is_written:
                    pictures.append(file)
        elif path.resolve() in written:
            raise UserError(f"{path} is one of the pictures, which would be lost: name another --output")
        else:
            pictures.append(path)
    if not pictures:
        apart = f" but those of --show {show}, which are not predicted: name another folder" if show else ""
        raise UserError(f"there are no files in {', '.join(map(str, paths))}{apart}")
    return list(dict.fromkeys(pictures))


def read_digits(pictures: Iterable[Path], show: Path | None = None) -> tuple[dict[Path, Tensor], dict[Path, str]]:
    """Return the digits, float32 ``(1, 28, 28)``, and what is wrong with the pictures that have none.

    Args:
        pictures: Files.
        show: Folder for a picture of each of them beside what the network sees.
    """
    digits: dict[Path, Tensor] = {}
    failures: dict[Path, str] = {}
    for number, path in enumerate(pictures, start=1):
        try:
            picture = read_picture(path)
            digits[path] = preprocess(picture)
        except OSError as error:
            failures[path] = error.strerror or str(error)
        except UserError as error:
            failures[path] = str(error)
        else:
            if show:
                require_local(show, "--show").mkdir(parents=True, exist_ok=True)
                name = f"{number:03}_{path.stem[:50]}.png"  # a file's name may have 255 bytes, a character up to 4
                _side_by_side(picture, digits[path]).save(show / name)
    return digits, failures


def _side_by_side(picture: Image.Image, digit: Tensor) -> Image.Image:
    seen = Image.fromarray((digit[0] * 255).byte().numpy()).resize((_SHOWN_SIZE, _SHOWN_SIZE), Image.Resampling.NEAREST)
    picture.thumbnail((_SHOWN_SIZE, _SHOWN_SIZE))
    both = Image.new("RGB", (2 * _SHOWN_SIZE + 10, _SHOWN_SIZE), "grey")
    both.paste(picture, ((_SHOWN_SIZE - picture.width) // 2, (_SHOWN_SIZE - picture.height) // 2))
    both.paste(seen, (_SHOWN_SIZE + 10, 0))
    return both


def say_predictions(probabilities: Tensor, paths: Sequence[Path], output: Path | None = None) -> None:
    """Print a table of the pictures' digits, or CSV of the test images, and write CSV to ``output``.

    Args:
        probabilities: Float ``(N, 10)``.
        paths: The first N are the pictures; none for the test images.
        output: The file, if there is to be one.

    Raises:
        OSError: If the file cannot be written.
    """
    paths = paths[: len(probabilities)]  # fewer with --trainer.limit_predict_batches
    text = _format_csv(paths, probabilities)
    if output:
        with replacing(output) as unfinished:
            unfinished.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
        print(f"Wrote {output}", file=sys.stderr)
    if paths:
        print(_format_table(paths, probabilities))
    elif not output:
        print(text, end="")


def _format_csv(paths: Sequence[Path], probabilities: Tensor) -> str:
    # A line for each picture or test image: its digit, how probable that is, and all ten probabilities.
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path" if paths else "image", "digit", "probability", *(f"p{digit}" for digit in range(10))))
    for name, row in zip(paths or range(len(probabilities)), probabilities, strict=True):
        writer.writerow((name, int(row.argmax()), *(f"{float(p):.4f}" for p in (row.max(), *row))))
    return text.getvalue()


def _format_table(paths: Sequence[Path], probabilities: Tensor) -> str:
    names = [printable(path) for path in paths]
    width = max(map(len, ["picture", *names]))
    lines = [f"{'picture':{width}}  digit  probability"]
    for name, row in zip(names, probabilities, strict=True):
        lines.append(f"{name:{width}}  {int(row.argmax()):5}  {100 * float(row.max()):9.2f} %")
    return "\n".join(lines)


def printable(path: Path) -> str:
    """Return a path for the screen: a name of a stranger's file may have what a terminal would obey."""
    return str(path) if str(path).isprintable() else ascii(str(path))
