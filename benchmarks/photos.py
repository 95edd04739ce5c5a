"""Turn MNIST's test images into pictures that MNIST did not make, and count how many are still read right.

    python benchmarks/photos.py --images 10000

Prints for each kind of picture, and for the untouched test images, how many digits the network of the package reads
right. None is refused. A picture in which not exactly one digit is found is not right.
"""

from collections.abc import Iterable
from functools import cache

import cv2
import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageFilter
from torch import Tensor
from torchmetrics.functional.text import char_error_rate

from console import DATA, make_parser, print_head, print_row
from drawing import Array, gradient, photograph, to_jpeg, to_picture
from mnist_lit import MNISTClassifier, mnist
from mnist_lit.pictures import NoDigitError, numbers, read_digits
from mnist_lit.pictures.rejection import REJECT

_ROUGH = (0.1, 0.5), (0.02, 0.1), 0.04  # how far light falls off, noise, and paper's texture in a photo
_SQUARE = np.ones((3, 3), np.uint8)
pretrained = cache(MNISTClassifier.from_pretrained)


def clean(digit: Tensor, random: Generator) -> Image.Image:
    """Enlarge uint8 ``digit`` (28, 28) 3 to 20 times, and put it somewhere on paper of a light or dark colour."""
    return to_picture(_clean(digit, random))


def rough(digit: Tensor, random: Generator) -> Image.Image:
    """Take a photo of it, under light that falls off by a tenth to a half, with noise, paper's texture and JPEG."""
    return to_jpeg(photograph(_clean(digit, random), random, *_ROUGH), random)


def harsh(digit: Tensor, random: Generator) -> Image.Image:
    """Let the edge of a shadow and specks of dust fall on it, and take away light, which adds noise."""
    pixels = photograph(_clean(digit, random), random, *_ROUGH)
    height, width, _ = pixels.shape
    in_shadow = gradient(pixels, random) > random.uniform(-0.3, 0.3)
    blur = ImageFilter.GaussianBlur(0.03 * max(height, width))
    shadow = np.asarray(Image.fromarray(in_shadow.astype(np.uint8) * 255).filter(blur)) / 255
    pixels *= 1 - random.uniform(0.1, 0.4) * shadow[..., None]
    pixels += 0.08 * random.normal(size=pixels.shape)
    y, x = np.indices((height, width))
    for _ in range(random.integers(7)):
        radius = max(1, random.uniform(0.004, 0.012) * max(height, width))
        pixels[(y - random.integers(height)) ** 2 + (x - random.integers(width)) ** 2 < radius**2] *= 0.3
    return to_jpeg(pixels, random)


def low_resolution(digit: Tensor, random: Generator) -> Image.Image:
    """Scan it, black on white, with 14 to 21 pixels in place of 28, so that a digit has 10 to 15."""
    size = int(random.integers(14, 22))
    return Image.fromarray(255 - digit.numpy()).resize((size, size), Image.Resampling.BILINEAR)


def thin_pen(digit: Tensor, random: Generator) -> Image.Image:
    """Write it with a pen a third of MNIST's pixels wide: only the middle of strokes remains when they are eroded."""
    solid = _enlarge(digit)
    for _ in range(12):  # keeps lines that would vanish
        solid = np.maximum(cv2.erode(solid, _SQUARE), solid - cv2.morphologyEx(solid, cv2.MORPH_OPEN, _SQUARE))
    return _widen(solid, 1)


def thick_pen(digit: Tensor, random: Generator) -> Image.Image:
    """Write it with a pen that is wider than MNIST's by 1 to 2 pixels, which closes some loops."""
    return _widen(_enlarge(digit), int(random.integers(4, 9)))


KINDS = {kind.__name__.replace("_", " "): kind for kind in (clean, rough, harsh, low_resolution, thin_pen, thick_pen)}


def load_test_digits() -> tuple[Tensor, Tensor]:
    """Return the test images, uint8 ``(10000, 28, 28)``, and their labels, int64 ``(10000,)``."""
    torch.set_num_threads(1)  # more do not make such a small network faster
    mnist.unpack(DATA)
    return mnist.read(DATA / "MNIST" / "raw", "t10k")


def read(picture: Image.Image, reject: float = REJECT, which: int | None = None) -> str:
    """Return the digits of a picture, or of one of its numbers; ``?`` for each that is refused."""
    try:
        found = numbers(read_digits(picture, pretrained(), reject))
    except NoDigitError:
        return ""
    return "".join(found) if which is None else found[which]


def print_right(
    name: str, pictures: Iterable[tuple[Image.Image, str]], reject: float = REJECT, which: int | None = None
) -> None:
    """Print a row of a table: percentages of the digits and of the numbers in pictures that are read right."""
    numbers_read = [(read(picture, reject, which), number) for picture, number in pictures]
    errors = float(char_error_rate(*map(list, zip(*numbers_read, strict=True))))  # one for each digit too many, too
    right = np.mean([answer == number for answer, number in numbers_read])
    print_row(name, f"{100 * (1 - errors):.2f}", f"{100 * right:.2f}")


def _clean(digit: Tensor, random: Generator) -> Array:
    size = round(28 * random.uniform(3, 20))
    width, height = (round(size * random.uniform(1, 2)) for _ in range(2))
    canvas = Image.new("L", (width, height))
    place = (int(random.integers(width - size + 1)), int(random.integers(height - size + 1)))
    canvas.paste(Image.fromarray(digit.numpy()).resize((size, size), Image.Resampling.BICUBIC), place)
    paper, ink = random.uniform(0.7, 1, size=3), random.uniform(0, 0.4, size=3)
    if random.random() < 0.5:
        paper, ink = ink, paper
    return np.asarray(paper + (ink - paper) * (np.asarray(canvas) / 255)[..., None])


def _enlarge(digit: Tensor) -> Array:
    large = cv2.resize(digit.numpy() / np.float32(255), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    return np.pad(large > 0.5, 40).astype(np.uint8)


def _widen(solid: Array, reach: int) -> Image.Image:
    return Image.fromarray(255 - 255 * cv2.dilate(solid, _SQUARE, iterations=reach))


if __name__ == "__main__":
    count = make_parser(__doc__, images=(10_000, "how many test images to turn into pictures")).parse_args().images
    images, labels = (part[:count] for part in load_test_digits())
    print_head("pictures", "digits right, %", "pictures right, %")
    right = pretrained()(images.unsqueeze(1) / 255).argmax(dim=1) == labels
    print_row("the test images, untouched", *[f"{100 * float(right.float().mean()):.2f}"] * 2)
    for kind, make in KINDS.items():
        random = np.random.default_rng(0)
        pictures = ((make(image, random), str(int(label))) for image, label in zip(images, labels, strict=True))
        print_right(kind, pictures, reject=0)
