"""Turn MNIST's test images into pictures that MNIST did not make, and count how many are still read right.

    python benchmarks/photos.py --images 10000

Prints a table: for each kind of picture the accuracy of the network that comes with the package, after
``detect_digits``, beside that on the untouched test images.
"""

import argparse
import io
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F

from mnist_lit import MNISTClassifier, MNISTDataModule
from mnist_lit.pictures import NoDigitError, detect_digits

Floats = np.ndarray[tuple[Any, ...], np.dtype[np.floating[Any]]]


def clean(digit: Tensor, random: Generator) -> Image.Image:
    """Enlarge uint8 ``digit`` (28, 28) 3 to 20 times, and put it somewhere on paper of a light or dark colour."""
    return to_picture(_clean(digit, random))


def rough(digit: Tensor, random: Generator) -> Image.Image:
    """Take a photo of it, under light that falls off by a tenth to a half, with noise, paper's texture and JPEG."""
    return to_jpeg(_rough(digit, random), random)


def harsh(digit: Tensor, random: Generator) -> Image.Image:
    """Let the edge of a shadow and specks of dust fall on it, and take away light, which adds noise."""
    pixels = _rough(digit, random)
    height, width, _ = pixels.shape
    y, x = np.mgrid[0:height, 0:width]
    angle = random.uniform(0, 2 * np.pi)
    in_shadow = np.cos(angle) * (x / width - 0.5) + np.sin(angle) * (y / height - 0.5) > random.uniform(-0.3, 0.3)
    blur = ImageFilter.GaussianBlur(0.03 * max(height, width))
    shadow = np.asarray(Image.fromarray(in_shadow.astype(np.uint8) * 255).filter(blur)) / 255
    pixels *= 1 - random.uniform(0.1, 0.4) * shadow[..., None]
    pixels += 0.08 * random.normal(size=pixels.shape)
    for _ in range(random.integers(7)):
        radius = max(1, random.uniform(0.004, 0.012) * max(height, width))
        pixels[(y - random.integers(height)) ** 2 + (x - random.integers(width)) ** 2 < radius**2] *= 0.3
    return to_jpeg(pixels, random)


def low_resolution(digit: Tensor, random: Generator) -> Image.Image:
    """Scan it, black on white, with 14 to 21 pixels in place of 28, so that a digit has 10 to 15."""
    size = int(random.integers(14, 22))
    return Image.fromarray(255 - digit.numpy()).resize((size, size), Image.Resampling.BILINEAR)


def thin_pen(digit: Tensor, random: Generator) -> Image.Image:
    """Write it with a pen a third of MNIST's pixels wide: what remains when all but the middle of strokes is eroded."""
    solid = _enlarge(digit)
    for _ in range(12):
        eroded = -F.max_pool2d(-solid, 3, 1, 1)
        solid = torch.maximum(eroded, solid - F.max_pool2d(eroded, 3, 1, 1))  # keeps lines that would vanish
    return _black_on_white(F.max_pool2d(solid, 3, 1, 1))


def thick_pen(digit: Tensor, random: Generator) -> Image.Image:
    """Write it with a pen that is wider than MNIST's by 1 to 2 pixels, which closes some loops."""
    reach = int(random.integers(4, 9))
    return _black_on_white(F.max_pool2d(_enlarge(digit), 2 * reach + 1, 1, reach))


KINDS: dict[str, Callable[[Tensor, Generator], Image.Image]] = {
    "clean": clean,
    "rough": rough,
    "harsh": harsh,
    "low resolution": low_resolution,
    "thin pen": thin_pen,
    "thick pen": thick_pen,
}


def _clean(digit: Tensor, random: Generator) -> Floats:
    size = round(28 * random.uniform(3, 20))
    width, height = (round(size * random.uniform(1, 2)) for _ in range(2))
    canvas = Image.new("L", (width, height))
    place = (int(random.integers(width - size + 1)), int(random.integers(height - size + 1)))
    canvas.paste(Image.fromarray(digit.numpy()).resize((size, size), Image.Resampling.BICUBIC), place)
    paper, ink = random.uniform(0.7, 1, size=3), random.uniform(0, 0.4, size=3)
    if random.random() < 0.5:
        paper, ink = ink, paper
    pixels: Floats = paper + (ink - paper) * np.asarray(canvas)[..., None] / 255
    return pixels


def _rough(digit: Tensor, random: Generator) -> Floats:
    pixels = _clean(digit, random)
    height, width, _ = pixels.shape
    y, x = np.mgrid[0:height, 0:width]
    angle = random.uniform(0, 2 * np.pi)
    distance = np.cos(angle) * (x / width - 0.5) + np.sin(angle) * (y / height - 0.5) + 0.7
    light = 1 - random.uniform(0.1, 0.5) * distance / 1.4
    coarse = random.normal(size=(height // 8 + 2, width // 8 + 2)).astype(np.float32)
    texture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    light *= 1 + random.uniform(0, 0.04) * texture
    pixels *= light[..., None]
    pixels += random.uniform(0.02, 0.1) * random.normal(size=pixels.shape)
    return pixels


def to_picture(pixels: Floats) -> Image.Image:
    """Return RGB ``pixels`` ``(H, W, 3)`` in [0, 1] as a picture."""
    return Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))


def to_jpeg(pixels: Floats, random: Generator) -> Image.Image:
    """Return it as it comes back from a JPEG file of a quality from 40 to 89."""
    file = io.BytesIO()
    to_picture(pixels).save(file, "JPEG", quality=int(random.integers(40, 90)))
    picture = Image.open(file)
    picture.load()
    return picture


def _enlarge(digit: Tensor) -> Tensor:
    large = F.interpolate(digit[None, None] / 255, scale_factor=8, mode="bicubic")
    return (F.pad(large, (40,) * 4) > 0.5).float()


def _black_on_white(solid: Tensor) -> Image.Image:
    return Image.fromarray(((1 - solid[0, 0]) * 255).byte().numpy())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="how many test images to turn into pictures")
    parser.add_argument("--data_dir", default="data", help="folder for the data")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    datamodule = MNISTDataModule(arguments.data_dir)
    datamodule.prepare_data()
    datamodule.setup("test")
    batches = zip(*datamodule.test_dataloader(), strict=True)
    images, labels = (torch.cat(parts)[: arguments.images] for parts in batches)
    model = MNISTClassifier.from_pretrained()

    def print_row(kind: str, digits: dict[int, Tensor], milliseconds: str = "") -> None:
        with torch.inference_mode():
            guesses = model(torch.stack(list(digits.values()))).argmax(dim=1)
        right = int((guesses == labels[list(digits)]).sum())
        missed = len(labels) - len(digits)
        print(f"| {kind} | {100 * right / len(labels):.2f} | {missed} | {milliseconds} |", flush=True)

    print("| pictures | accuracy, % | not exactly one digit found | milliseconds a picture |")
    print("|---|---|---|---|")
    print_row("the test images, untouched", dict(enumerate(images)))
    for kind, make in KINDS.items():
        random = np.random.default_rng(0)
        seconds = 0.0
        digits: dict[int, Tensor] = {}
        for index, image in enumerate(images):
            picture = make((image[0] * 255).round().byte(), random)
            start = time.perf_counter()
            with suppress(NoDigitError):
                found = detect_digits(picture)
                if len(found) == 1:
                    digits[index] = found[0].image
            seconds += time.perf_counter() - start
        print_row(kind, digits, f"{1000 * seconds / len(images):.0f}")


if __name__ == "__main__":
    main()
