"""Answers: the digits that a network reads in a picture."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor, nn

from mnist_lit.pictures.detect import Detection, detect_digits
from mnist_lit.pictures.rejection import REJECT, refuse
from mnist_lit.quiet import one_thread


@dataclass(frozen=True, eq=False)
class Answer:
    """A digit in a picture, and the network's answer.

    Attributes:
        detection: Its place and image.
        probabilities: Float ``(10,)``.
        refused: Why it is not a digit, empty if it is one.
    """

    detection: Detection
    probabilities: Tensor
    refused: str

    @property
    def digit(self) -> str:
        """The most probable digit, or ``?``."""
        return "?" if self.refused else str(int(self.probabilities.argmax()))

    @property
    def percent(self) -> str:
        """The probability of the digit, never 100 %; empty for a non-digit, whose probabilities mean nothing."""
        percent = 100 * float(self.probabilities.max())
        return "" if self.refused else f"{percent:.2f} %" if percent < 99.99 else "> 99.99 %"


@one_thread()
def read_digits(picture: Image.Image, model: nn.Module, reject: float = REJECT) -> list[Answer]:
    """Return the digits in a picture in reading order: lines from the top, in each line from the left.

    Args:
        picture: Of any size and mode.
        model: A network that returns logits ``(N, 10)`` for images ``(N, 1, 28, 28)``, on the CPU.
        reject: Share of MNIST's digits that may be refused, at least 0 and below 1; 0 refuses nothing.

    Raises:
        NoDigitError: If nothing in the picture could be a digit.
    """
    detections = detect_digits(picture)
    images = torch.stack([detection.image for detection in detections])
    with torch.inference_mode():
        probabilities = model(images).softmax(dim=1)
    return [Answer(*each) for each in zip(detections, probabilities, refuse(images, reject), strict=True)]


def numbers(answers: Iterable[Answer]) -> list[str]:
    """Return the number in each line of a picture, with ``?`` for a component that is not a digit."""
    lines = groupby(answers, key=lambda answer: answer.detection.line)
    return ["".join(answer.digit for answer in line) for _, line in lines]


def draw_answers(picture: Image.Image, answers: Sequence[Answer]) -> Image.Image:
    """Return a picture with boxes and answers, and below it what the network sees.

    Args:
        picture: As ``read_picture`` or ``to_rgb`` returns it.
        answers: At least one.
    """
    width, gap, columns = 600, 10, min(6, len(answers))
    side = min(140, (width + gap) // columns - gap) // 28 * 28  # a whole number of pixels for each of the network's
    small = ImageOps.contain(picture, (width, 2000))
    of_box = max(small.size) / max(picture.size)
    height = small.height + 2 * gap + ceil(len(answers) / columns) * (side + gap)
    shown = Image.new("RGB", (width + 2 * gap, height), "grey")
    draw, font = ImageDraw.Draw(small), ImageFont.load_default(24)
    for index, answer in enumerate(answers):
        left, top, right, bottom = (round(of_box * edge) for edge in answer.detection.box)
        draw.rectangle((left, top, right, bottom), outline="red")
        draw.text((left, max(0, top - 28)), answer.digit, fill="red", font=font)
        pixels = Image.fromarray((255 * answer.detection.image[0].numpy()).astype(np.uint8))
        row, column = divmod(index, columns)
        place = gap + column * (side + gap), small.height + 2 * gap + row * (side + gap)
        shown.paste(pixels.resize((side, side), Image.Resampling.NEAREST), place)
    shown.paste(small, (gap, gap))
    return shown
