"""Predictions of one's own pictures, and predictions as a table or CSV."""

import csv
import io
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from os.path import realpath
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid
from tqdm import tqdm

from mnist_lit.errors import UserError
from mnist_lit.files import replacing, require_local
from mnist_lit.tools.detect import Detection, detect_digits
from mnist_lit.tools.preprocess import full_size, read_picture
from mnist_lit.tools.rejection import REJECT, refuse

_SHOWN = re.compile(r"\d{3,}_.*\.png")  # names of the pictures of --show
_PROBABILITIES = ("probability", *(f"p{digit}" for digit in range(10)))


def find_pictures(paths: Iterable[Path], output: Path | None = None, show: Path | None = None) -> list[Path]:
    """Return the files among ``paths`` and in the folders among them and below, each once, without hidden ones.

    Args:
        paths: Files and folders.
        output: A CSV file, left out of the folders: what was written before.
        show: A folder whose pictures with names such as ``001_name.png`` are left out.

    Raises:
        UserError: If there is no file, or a picture would be overwritten.
    """
    pictures: dict[Path, Path] = {}  # by what a link points at
    for path in paths:
        is_folder = path.is_dir()
        for file in sorted(path.rglob("*")) if is_folder else [path]:
            is_hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if is_folder and (is_hidden or not file.is_file()):
                continue
            target = Path(realpath(file))  # unlike resolve() it may be a link to itself
            is_output = output is not None and target == Path(realpath(output))
            is_shown = show is not None and target.parent == Path(realpath(show)) and _SHOWN.fullmatch(target.name)
            if not is_output and not is_shown:
                pictures.setdefault(target, file)
            elif not is_folder or (is_output and file.suffix != ".csv"):
                raise UserError(f"{file} is among --images and would be overwritten: name another --output or --show")
    if not pictures:
        apart = f" but those of --show {show}, which are not predicted: name another folder" if show else ""
        raise UserError(f"there are no files in {', '.join(map(str, paths))}{apart}")
    return list(pictures.values())


@dataclass(frozen=True, eq=False)
class Answer:
    """A digit in a picture, and what the network makes of it.

    Attributes:
        detection: Where it is.
        probabilities: Float ``(10,)``.
        refused: Why it is no digit, empty if it is one.
    """

    detection: Detection
    probabilities: Tensor
    refused: str

    @property
    def digit(self) -> str:
        """The most probable digit, or ``?``."""
        return "?" if self.refused else str(int(self.probabilities.argmax()))


def read_digits(picture: Image.Image, model: nn.Module, reject: float = REJECT) -> list[Answer]:
    """Return the digits in a picture as one reads them: lines from the top, in each line from the left.

    Args:
        picture: Of any size and mode.
        model: A network of logits ``(N, 10)`` for images ``(N, 1, 28, 28)``, on the CPU.
        reject: What part of MNIST's digits would be refused, from 0, none, to less than 1.

    Raises:
        NoDigitError: If there is nothing that could be a digit.
    """
    detections = detect_digits(picture)
    with torch.inference_mode():
        logits = model(torch.stack([detection.image for detection in detections]))
    return _answer_digits(detections, logits.softmax(dim=1), reject)


def _answer_digits(detections: Sequence[Detection], probabilities: Tensor, reject: float) -> list[Answer]:
    reasons = refuse(torch.stack([detection.image for detection in detections]), reject)
    return [Answer(*each) for each in zip(detections, probabilities, reasons, strict=True)]


def numbers(answers: Iterable[Answer]) -> list[str]:
    """Return the number in each line of a picture, with ``?`` for what is no digit."""
    lines = groupby(answers, key=lambda answer: answer.detection.line)
    return ["".join(answer.digit for answer in line) for _, line in lines]


def find_digits(pictures: Iterable[Path]) -> tuple[dict[Path, list[Detection]], dict[Path, str]]:
    """Return the digits in each of the pictures that have some, and what is wrong with the others.

    Args:
        pictures: Files.
    """
    digits: dict[Path, list[Detection]] = {}
    failures: dict[Path, str] = {}
    for path in tqdm(pictures, disable=None, leave=False):  # a bar on a terminal alone
        try:
            digits[path] = detect_digits(read_picture(path))
        except OSError as error:
            failures[path] = error.strerror or str(error)
        except UserError as error:
            failures[path] = str(error)
    return digits, failures


def answer_pictures(
    digits: Mapping[Path, Sequence[Detection]], probabilities: Tensor, reject: float
) -> dict[Path, list[Answer]]:
    """Return the answers to the digits in each picture.

    Args:
        digits: Those in each picture.
        probabilities: Float ``(N, 10)``, a row for each of the first N digits. A picture with digits beyond these is
            left out: a number without its last digits is another one.
        reject: As for ``read_digits``.
    """
    ends = accumulate(len(detections) for detections in digits.values())
    return {
        path: _answer_digits(detections, probabilities[end - len(detections) : end], reject)
        for (path, detections), end in zip(digits.items(), ends, strict=True)
        if end <= len(probabilities)
    }


def show_answers(answers: Mapping[Path, Sequence[Answer]], show: Path) -> None:
    """Write each picture with the digits' boxes and answers, and beside it what the network sees of each.

    Args:
        answers: Those to each picture.
        show: Folder for the pictures.

    Raises:
        OSError: If one cannot be written.
    """
    require_local(show, "--show").mkdir(parents=True, exist_ok=True)
    for number, (path, group) in enumerate(answers.items(), start=1):
        name = f"{number:03}_{path.stem[:50]}.png"  # a file's name may have 255 bytes, a character up to 4
        with replacing(show / name) as unfinished:
            draw_answers(read_picture(path), group).save(unfinished, "PNG")


def draw_answers(picture: Image.Image, answers: Sequence[Answer]) -> Image.Image:
    """Return a picture with boxes and answers; what the network sees of one digit is beside it, of several below.

    Args:
        picture: As ``read_picture`` or ``to_rgb`` returns it.
        answers: At least one.
    """
    is_one = len(answers) == 1
    width, size, gap = (280, 280, 10) if is_one else (590, 140, 10)
    scale = width / max(picture.size) if is_one else min(width / picture.width, 2000 / picture.height)
    small = picture.resize((max(1, round(scale * picture.width)), max(1, round(scale * picture.height))))
    draw, font = ImageDraw.Draw(small), ImageFont.load_default(24)
    of_box = scale * max(picture.size) / max(full_size(picture))  # a large picture has been reduced
    for answer in answers:
        left, top, right, bottom = (round(of_box * edge) for edge in answer.detection.box)
        draw.rectangle((left, top, right, bottom), outline="red")
        draw.text((left, max(0, top - 28)), answer.digit, fill="red", font=font)
    tensors = torch.stack([answer.detection.image for answer in answers])
    enlarged = interpolate(tensors, size, mode="nearest")
    seen = to_pil_image(make_grid(enlarged, nrow=4, padding=gap, pad_value=0.5))
    if is_one:
        shown = Image.new("RGB", (width + gap + seen.width, seen.height), "grey")
        shown.paste(seen, (width + gap, 0))
        shown.paste(small, ((width - small.width) // 2, (seen.height - small.height) // 2))
    else:
        shown = Image.new("RGB", (width + 2 * gap, small.height + gap + seen.height), "grey")
        shown.paste(seen, (0, small.height + gap))
        shown.paste(small, (gap, gap))
    return shown


def say_answers(answers: Mapping[Path, Sequence[Answer]], output: Path | None = None) -> None:
    """Print a table of the digits in pictures, and write CSV to ``output``.

    Args:
        answers: Those to each picture, at least one.
        output: The file, if there is to be one.

    Raises:
        OSError: If the file cannot be written.
    """
    each: list[tuple[Path, Answer, str]] = []
    for path, group in answers.items():
        lines = numbers(group)
        each += [(path, answer, lines[answer.detection.line - 1]) for answer in group]
    header = ("path", "line", "position", "left", "top", "right", "bottom", "number", "digit", *_PROBABILITIES)
    width = max(map(len, ["picture", *map(printable, answers)]))
    wide = max(map(len, ["number", *(number for _, _, number in each)]))
    print(f"{'picture':{width}}  digit  probability  {'number':{wide}}  left,top,right,bottom")
    rows: list[list[object]] = []
    for path, answer, number in each:
        place = answer.detection.line, answer.detection.position, *answer.detection.box
        rows.append([path, *place, number, answer.digit, *_formatted(answer.probabilities)])
        box = ",".join(map(str, answer.detection.box))
        # That of what is no digit means nothing.
        probability = "" if answer.refused else f"{100 * float(answer.probabilities.max()):.2f} %"
        text = (
            f"{printable(path):{width}}  {answer.digit:>5}  {probability:>11}  {number:{wide}}  {box}  {answer.refused}"
        )
        print(text.rstrip())
    if output:
        _write(output, _format_csv(header, rows))


def say_predictions(probabilities: Tensor, output: Path | None = None) -> None:
    """Print the digits of the test images as CSV, or write it to ``output``.

    Args:
        probabilities: Float ``(N, 10)``.
        output: The file, if there is to be one.

    Raises:
        OSError: If the file cannot be written.
    """
    rows = [[index, int(row.argmax()), *_formatted(row)] for index, row in enumerate(probabilities)]
    text = _format_csv(("image", "digit", *_PROBABILITIES), rows)
    if output:
        _write(output, text)
    else:
        print(text, end="")


def _formatted(probabilities: Tensor) -> list[str]:
    return [f"{float(p):.4f}" for p in (probabilities.max(), *probabilities)]


def _format_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _write(output: Path, text: str) -> None:
    with replacing(output) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    print(f"Wrote {output}", file=sys.stderr)


def printable(path: Path) -> str:
    """Return a path for the screen: a name of a stranger's file may have what a terminal would obey."""
    return str(path) if str(path).isprintable() else ascii(str(path))
