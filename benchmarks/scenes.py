"""Draw numbers as people photograph them, with MNIST's test digits as ink, and count how many are read right.

    python benchmarks/scenes.py --pictures 100
    python benchmarks/scenes.py --pictures 100 --digits 5

Prints two tables: numbers, of 2 to 9 digits on plain, lined and squared paper, of 1 to 5 digits in other scenes; and
non-digits. Half of the pictures have uneven light, noise and JPEG. The network is that of the package.
"""

import string
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Transpose
from torch import Tensor

from console import parser, print_head, print_row
from drawing import Floats, Range, crop, grain, overlay, paint, photograph, polyline, to_jpeg, to_picture
from mnist_lit.pictures.rejection import REJECT, refuse
from reading import load_test_digits, print_right, read

Scene = Callable[[Sequence[Tensor], Generator], Floats]

_GAPS = 0.15, 0.5  # least and most between two digits, in digits' heights


class Sheet(NamedTuple):
    """Paper and a number to write on it."""

    paper: Floats  # colours (H, W, 3)
    mask: Floats  # where the ink is, (H, W) in [0, 1]
    ink: Floats  # its colour
    height: float  # of the digits, in pixels
    box: tuple[int, int, int, int]  # left, top, right and bottom edge of the number


def sheet(digits: Sequence[Tensor], random: Generator, margin: Range = (0.3, 2), gaps: Range = _GAPS) -> Sheet:
    """Return light paper for uint8 ``digits`` (28, 28), 60 to 240 pixels high, with margins in digits' heights."""
    height = random.uniform(60, 240)
    ink = write(digits, height, random, gaps)
    left, right, top, bottom = (round(height * random.uniform(*margin)) for _ in range(4))
    mask = np.pad(ink, ((top, bottom), (left, right)))
    paper = np.tile(random.uniform(0.75, 1, 3), (*mask.shape, 1))
    box = (left, top, left + ink.shape[1], top + ink.shape[0])
    return Sheet(paper, mask, random.uniform(0, 0.35, 3), height, box)


def write(digits: Sequence[Tensor], height: float, random: Generator, gaps: Range = _GAPS) -> Floats:
    """Return the ink ``(H, W)`` in [0, 1] of digits about so high, side by side."""
    canvas: Floats = np.zeros((round(1.3 * height), 0))
    gap = 0
    for digit in digits:
        box = Image.fromarray(crop(digit.numpy()))
        scale = height / 20 * random.uniform(0.92, 1.08)
        size = max(2, round(box.width * scale)), max(2, round(box.height * scale))
        ink = np.asarray(box.resize(size, Image.Resampling.BICUBIC)) / 255
        top = int(random.integers(0, round(0.08 * height) + 1))
        canvas = overlay(canvas, ink, top, max(0, canvas.shape[1] + gap))
        gap = round(height * random.uniform(*gaps))
    return canvas[: np.flatnonzero(canvas.any(axis=1))[-1] + 1]


def plain(digits: Sequence[Tensor], random: Generator, gaps: Range = _GAPS) -> Floats:
    """Write them side by side, on paper of a light colour."""
    paper, mask, ink, _, _ = sheet(digits, random, gaps=gaps)
    return paint(paper, mask, ink)


def ruled(digits: Sequence[Tensor], random: Generator, is_squared: bool) -> Floats:
    """Write them on paper with lines, or with squares about half as high as a digit, which are lighter than the ink."""
    paper, mask, ink, height, _ = sheet(digits, random)
    period = height * (random.uniform(0.35, 0.7) if is_squared else random.uniform(0.9, 1.6))
    width = random.uniform(1, max(1.5, 0.02 * height))
    slope = np.tan(np.radians(random.uniform(-1.5, 1.5)))
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    rulings = np.zeros(mask.shape)
    for along in (y + slope * x, x - slope * y)[: 1 + is_squared]:
        distance = np.abs((along + random.uniform(0, period)) % period - period / 2)
        rulings = np.maximum(rulings, (width / 2 - distance + 0.5).clip(0, 1))
    colour = paper[0, 0] * random.uniform(0.5, 0.85) * np.array([random.uniform(0.8, 1), random.uniform(0.9, 1), 1])
    return paint(paint(paper, rulings, colour), mask, ink)


def boxed(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Write them into a box of a form."""
    paper, mask, ink, height, (left, top, right, bottom) = sheet(digits, random, margin=(0.4, 1.2))
    gaps = [round(height * random.uniform(0.08, 0.28)) for _ in range(4)]
    width = max(1, round(height * random.uniform(0.01, 0.04)))
    box = Image.new("L", mask.shape[::-1])
    edges = (left - gaps[0], top - gaps[1], right + gaps[2], bottom + gaps[3])
    ImageDraw.Draw(box).rectangle(edges, outline=255, width=width)
    return paint(paint(paper, np.asarray(box) / 255, random.uniform(0, 0.6, 3)), mask, ink)


def underlined(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Draw a line below the number, of the same ink."""
    paper, mask, ink, height, (left, _, right, bottom) = sheet(digits, random)
    y = bottom + round(height * random.uniform(0.08, 0.25))
    slope = round((right - left) * random.uniform(-0.05, 0.05))
    line = Image.new("L", mask.shape[::-1])
    width = round(height * random.uniform(0.03, 0.1))
    ImageDraw.Draw(line).line([(left, y), (right, y + slope)], fill=255, width=width)
    return paint(paper, np.maximum(mask, np.asarray(line) / 255), ink)


def framed(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Let a frame run along the picture's border."""
    picture = plain(digits, random)
    width = max(2, round(random.uniform(0.008, 0.04) * min(picture.shape[:2])))
    frame = np.ones(picture.shape[:2])
    frame[width:-width, width:-width] = 0
    return paint(picture, frame, random.uniform(0, 0.5, 3))


def on_desk(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Put the sheet, turned by up to 8 degrees, on a dark desk with grain."""
    paper = to_picture(plain(digits, random)).convert("RGBA")
    turned = paper.rotate(random.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True)
    left, right, top, bottom = (round(max(paper.size) * random.uniform(0.1, 0.6)) for _ in range(4))
    width, height = turned.width + left + right, turned.height + top + bottom
    wood = grain(height // 6 + 2, 3, width, height, random)[..., None]
    colour = random.uniform(0.15, 0.5) * np.array([1, random.uniform(0.6, 1), random.uniform(0.4, 1)])
    desk = to_picture(colour * (1 + 0.06 * wood))
    desk.paste(turned, (left, top), turned)
    return np.asarray(desk) / 255


def at_the_edge(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Let the desk be seen at one side of the sheet or two."""
    picture, margin = _with_margin(plain(digits, random), 0.35)
    height, width, _ = picture.shape
    y, x = np.mgrid[:height, :width]
    down, right = y - height / 2, x - width / 2  # from the middle
    sides = (x, down), (width - x, down), (y, right), (height - y, right)
    colour = random.uniform(0.1, 0.45, 3)
    for _ in range(random.integers(1, 3)):
        slope = np.tan(np.radians(random.uniform(-6, 6)))
        edge = margin * random.uniform(0.3, 0.85)
        distance, along = sides[random.integers(4)]
        picture = paint(picture, (edge - (distance + slope * along)).clip(0, 1), colour)
    return picture


def with_thumb(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Hold the sheet with a thumb, in one corner of the picture."""
    picture, margin = _with_margin(plain(digits, random), 0.3)
    height, width, _ = picture.shape
    y, x = np.mgrid[:height, :width]
    y, x = y - random.choice([0, height]), x - random.choice([0, width])
    angle, radius = random.uniform(0, np.pi), margin * random.uniform(0.7, 1.1)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    thumb = (radius * (1 - np.hypot(along / (1.25 * radius), across / (0.8 * radius)))).clip(0, 1)
    return paint(picture, thumb, np.array([0.85, 0.62, 0.5]) * random.uniform(0.5, 1))


def scanned(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Scan them, 40 to 90 pixels high, on a sheet of A4 with 150 to 300 dots an inch."""
    dots = random.choice([150, 200, 300])
    height, width = round(11.69 * dots), round(8.27 * dots)
    ink = write(digits, random.uniform(40, 90), random)[:, : width - dots]
    mask = np.zeros((height, width))
    top, left = random.integers(dots // 2, height - dots), random.integers(dots // 2, width - dots // 2 - ink.shape[1])
    mask[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return paint(np.tile(random.uniform(0.93, 1, 3), (height, width, 1)), mask, random.uniform(0, 0.3, 3))


def cropped(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Crop the picture to the ink, or nearly so."""
    height = random.uniform(40, 300)
    ink = crop(write(digits, height, random), least=0.2)
    ink = np.pad(ink, round(random.choice([0, 1, 0.03 * height])))
    return paint(np.tile(random.uniform(0.75, 1, 3), (*ink.shape, 1)), ink, random.uniform(0, 0.35, 3))


def touching(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Write them so close that most touch: each begins up to a tenth of its height before the last one ends."""
    return plain(digits, random, gaps=(-0.1, 0))


def _with_margin(picture: Floats, part: float) -> tuple[Floats, int]:
    margin = round(part * max(picture.shape))
    return np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), "edge"), margin


NUMBERS: dict[str, Scene] = {
    "plain": plain,
    "lined": partial(ruled, is_squared=False),
    "squared": partial(ruled, is_squared=True),
}
SCENES: dict[str, Scene] = {
    scene.__name__.replace("_", " "): scene
    for scene in (boxed, underlined, framed, on_desk, at_the_edge, with_thumb, scanned, cropped, touching)
}


def make_picture(scene: Scene, digits: Sequence[Tensor], random: Generator) -> Image.Image:
    """Draw a scene; half of them in uneven light, with noise and JPEG."""
    pixels = scene(digits, random)
    if random.random() < 0.5:
        return to_picture(pixels)
    return to_jpeg(photograph(pixels, (0.05, 0.35), (0.01, 0.05), random), random)


def letter(character: str, font: Path) -> Image.Image:
    """Print a character."""
    picture = Image.new("RGB", (220, 260), "white")
    ImageDraw.Draw(picture).text((110, 130), character, fill="black", font=ImageFont.truetype(font, 140), anchor="mm")
    return picture


def scribble(random: Generator) -> Image.Image:
    """Draw a random line of 4 to 13 corners, half of them round."""
    corners = np.cumsum(random.normal(size=(random.integers(4, 14), 2)), axis=0)
    line = polyline(50 + 200 * (corners - corners.min(axis=0)) / np.ptp(corners, axis=0).max(), 200)
    if random.random() < 0.5:
        window = np.hanning(21) / np.hanning(21).sum()
        line = np.stack([np.convolve(np.pad(axis, 10, "edge"), window, "valid") for axis in line.T], axis=1)
    picture = Image.new("RGB", (300, 300), "white")
    points = [(float(x), float(y)) for x, y in line]
    ImageDraw.Draw(picture).line(points, fill="black", width=int(random.integers(8, 18)), joint="curve")
    return picture


def print_refused(pictures: int, images: Tensor, labels: Tensor) -> None:
    """Print how many non-digits are refused, and how many digits."""

    def refused(several: Iterable[Image.Image]) -> float:
        return 100 * float(np.mean([set(read(picture)) <= {"?"} for picture in several]))

    print_head("non-digits", "refused, %")
    fonts = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuS*[!y].ttf"))
    letters = {each: refused(letter(each, font) for font in fonts) for each in string.ascii_letters}
    print_row("letters", f"{np.mean(list(letters.values())):.1f}")
    unlike = [share for each, share in letters.items() if each not in "OoIlSsZzBbgqGDQTLYi"]
    print_row("letters that are not like a digit", f"{np.mean(unlike):.1f}")
    random = np.random.default_rng(0)
    print_row("scribbles", f"{refused(scribble(random) for _ in range(pictures)):.1f}")
    others = images[labels != 0][:pictures]
    turned = (make_picture(plain, [digit], random).transpose(Transpose.ROTATE_90) for digit in others)
    print_row("digits other than 0, turned by 90 degrees", f"{refused(turned):.1f}")
    reasons = [reason for part in images.split(1000) for reason in refuse(part.unsqueeze(1) / 255, REJECT)]
    print_row("MNIST's own digits", f"{100 * np.mean([bool(reason) for reason in reasons]):.2f}")


def main() -> None:
    """Print the tables."""
    arguments = parser(__doc__)
    arguments.add_argument("--pictures", type=int, default=100, help="of each kind and length")
    arguments.add_argument("--digits", type=int, nargs="+", help="lengths of the numbers, in place of the above")
    options = arguments.parse_args()
    images, labels = load_test_digits()
    print_head("pictures", "digits right, %", "numbers right, %")
    for name, scene in (NUMBERS | SCENES).items():
        lengths = options.digits or (range(2, 10) if name in NUMBERS else (1, 2, 3, 5))
        random = np.random.default_rng(0)
        chosen = (torch.from_numpy(random.integers(0, 10_000, n)) for n in lengths for _ in range(options.pictures))
        numbers = (
            (make_picture(scene, list(images[each]), random), "".join(map(str, labels[each].tolist())))
            for each in chosen
        )
        print_right(name, numbers)
    print()
    print_refused(4 * options.pictures, images, labels)


if __name__ == "__main__":
    main()
