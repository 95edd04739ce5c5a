"""Draw numbers as people photograph them, with MNIST's test digits as ink, and count how many are read right.

    python benchmarks/scenes.py --pictures 100
    python benchmarks/scenes.py --pictures 100 --digits 5

Prints three tables: numbers of 2 to 9 digits on plain, lined and squared paper; other scenes, with 1 to 5 digits; and
what is no digit. Half of the pictures have uneven light, noise and JPEG. The network is that of the package.
"""

import argparse
import string
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Transpose
from torch import Tensor
from torchmetrics.functional.text import char_error_rate

from mnist_lit import MNISTClassifier, MNISTDataModule
from mnist_lit.pictures import NoDigitError, numbers, read_digits
from mnist_lit.pictures.rejection import REJECT, refuse
from photos import Floats, to_jpeg, to_picture

Scene = Callable[[Sequence[Tensor], Generator], Floats]


def plain(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Write uint8 ``digits`` (28, 28) side by side, 60 to 240 pixels high, on paper of a light colour."""
    canvas, mask, ink, _, _ = _write(digits, random)
    return _paint(canvas, mask, ink)


def lined(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Write them on paper with lines, which are lighter than the ink."""
    return _ruled(digits, random, is_squared=False)


def squared(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Write them on squared paper, a digit about two squares high."""
    return _ruled(digits, random, is_squared=True)


def boxed(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Write them into a box of a form."""
    canvas, mask, ink, height, (left, top, right, bottom) = _write(digits, random, margin=(0.4, 1.2))
    gaps = [round(height * random.uniform(0.08, 0.28)) for _ in range(4)]
    width = max(1, round(height * random.uniform(0.01, 0.04)))
    box = Image.new("L", mask.shape[::-1])
    edges = (left - gaps[0], top - gaps[1], right + gaps[2], bottom + gaps[3])
    ImageDraw.Draw(box).rectangle(edges, outline=255, width=width)
    return _paint(_paint(canvas, np.asarray(box) / 255, random.uniform(0, 0.6, 3)), mask, ink)


def underlined(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Draw a line below the number, of the same ink."""
    canvas, mask, ink, height, (left, _, right, bottom) = _write(digits, random)
    y = bottom + round(height * random.uniform(0.08, 0.25))
    slope = round((right - left) * random.uniform(-0.05, 0.05))
    line = Image.new("L", mask.shape[::-1])
    ImageDraw.Draw(line).line(
        [(left, y), (right, y + slope)], fill=255, width=round(height * random.uniform(0.03, 0.1))
    )
    return _paint(canvas, np.maximum(mask, np.asarray(line) / 255), ink)


def framed(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Let a frame run along the picture's border."""
    picture = plain(digits, random)
    width = max(2, round(random.uniform(0.008, 0.04) * min(picture.shape[:2])))
    frame = np.ones(picture.shape[:2])
    frame[width:-width, width:-width] = 0
    return _paint(picture, frame, random.uniform(0, 0.5, 3))


def on_desk(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Lay the sheet, turned by up to 8 degrees, on a dark desk with grain."""
    sheet = to_picture(plain(digits, random)).convert("RGBA")
    turned = sheet.rotate(random.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True)
    left, right, top, bottom = (round(max(sheet.size) * random.uniform(0.1, 0.6)) for _ in range(4))
    width, height = turned.width + left + right, turned.height + top + bottom
    coarse = Image.fromarray(random.normal(size=(height // 6 + 2, 3)).astype(np.float32))
    grain = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))[..., None]
    colour = random.uniform(0.15, 0.5) * np.array([1, random.uniform(0.6, 1), random.uniform(0.4, 1)])
    desk = to_picture(colour * (1 + 0.06 * grain))
    desk.paste(turned, (left, top), turned)
    return np.asarray(desk) / 255


def at_the_edge(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Let the desk be seen at one side of the sheet or two."""
    picture, margin = _with_margin(plain(digits, random), 0.35)
    height, width, _ = picture.shape
    y, x = np.mgrid[:height, :width]
    colour = random.uniform(0.1, 0.45, 3)
    for _ in range(random.integers(1, 3)):
        slope = np.tan(np.radians(random.uniform(-6, 6)))
        distances = (
            x + slope * (y - height / 2),
            width - x + slope * (y - height / 2),
            y + slope * (x - width / 2),
            height - y + slope * (x - width / 2),
        )
        edge = margin * random.uniform(0.3, 0.85)
        picture = _paint(picture, (edge - distances[random.integers(4)]).clip(0, 1), colour)
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
    return _paint(picture, thumb, np.array([0.85, 0.62, 0.5]) * random.uniform(0.5, 1))


def scanned(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Scan them, 40 to 90 pixels high, on a sheet of A4 with 150 to 300 dots an inch."""
    dots = random.choice([150, 200, 300])
    height, width = round(11.69 * dots), round(8.27 * dots)
    ink = _lay(digits, random.uniform(40, 90), random)[:, : width - dots]
    mask = np.zeros((height, width))
    top, left = random.integers(dots // 2, height - dots), random.integers(dots // 2, width - dots // 2 - ink.shape[1])
    mask[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return _paint(np.tile(random.uniform(0.93, 1, 3), (height, width, 1)), mask, random.uniform(0, 0.3, 3))


def cropped(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Crop the picture to the ink, or nearly so."""
    height = random.uniform(40, 300)
    ink = _lay(digits, height, random)
    rows, columns = np.nonzero(ink.max(axis=1) > 0.2)[0], np.nonzero(ink.max(axis=0) > 0.2)[0]
    ink = np.pad(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], round(random.choice([0, 1, 0.03 * height])))
    return _paint(np.tile(random.uniform(0.75, 1, 3), (*ink.shape, 1)), ink, random.uniform(0, 0.35, 3))


def touching(digits: Sequence[Tensor], random: Generator) -> Floats:
    """Write them so close that most touch: each begins up to a tenth of its height before the last one ends."""
    canvas, mask, ink, _, _ = _write(digits, random, gaps=(-0.1, 0))
    return _paint(canvas, mask, ink)


NUMBERS: dict[str, Scene] = {scene.__name__: scene for scene in (plain, lined, squared)}
SCENES: dict[str, Scene] = {
    scene.__name__.replace("_", " "): scene
    for scene in (boxed, underlined, framed, on_desk, at_the_edge, with_thumb, scanned, cropped, touching)
}


def make_picture(scene: Scene, digits: Sequence[Tensor], random: Generator) -> Image.Image:
    """Draw a scene; half of them in uneven light, with noise and JPEG."""
    pixels = scene(digits, random)
    if random.random() < 0.5:
        return to_picture(pixels)
    height, width, _ = pixels.shape
    y, x = np.mgrid[:height, :width]
    angle = random.uniform(0, 2 * np.pi)
    distance = np.cos(angle) * (x / width - 0.5) + np.sin(angle) * (y / height - 0.5) + 0.7
    pixels = pixels * (1 - random.uniform(0.05, 0.35) * distance / 1.4)[..., None]
    pixels += random.uniform(0.01, 0.05) * random.normal(size=pixels.shape)
    return to_jpeg(pixels, random)


def letter(character: str, font: Path) -> Image.Image:
    """Print a character."""
    picture = Image.new("RGB", (220, 260), "white")
    ImageDraw.Draw(picture).text((110, 130), character, fill="black", font=ImageFont.truetype(font, 140), anchor="mm")
    return picture


def scribble(random: Generator) -> Image.Image:
    """Draw a random line of 4 to 13 corners, half of them round."""
    corners = np.cumsum(random.normal(size=(random.integers(4, 14), 2)), axis=0)
    corners = 50 + 200 * (corners - corners.min(axis=0)) / np.ptp(corners, axis=0).max()
    times = np.linspace(0, len(corners) - 1, 200)
    line = np.stack([np.interp(times, range(len(corners)), corners[:, axis]) for axis in (0, 1)], axis=1)
    if random.random() < 0.5:
        window = np.hanning(21) / np.hanning(21).sum()
        line = np.stack([np.convolve(np.pad(line[:, axis], 10, "edge"), window, "valid") for axis in (0, 1)], axis=1)
    picture = Image.new("RGB", (300, 300), "white")
    points = [(float(x), float(y)) for x, y in line]
    ImageDraw.Draw(picture).line(points, fill="black", width=int(random.integers(8, 18)), joint="curve")
    return picture


def _lay(digits: Sequence[Tensor], height: float, random: Generator, gaps: tuple[float, float] = (0.15, 0.5)) -> Floats:
    # Ink of a number, (H, W) in [0, 1]: digits about so high, cropped to their ink, side by side.
    canvas = np.zeros((round(1.3 * height), 0))
    gap = 0
    for digit in digits:
        pixels = digit.numpy()
        rows, columns = np.nonzero(pixels.max(axis=1) > 60)[0], np.nonzero(pixels.max(axis=0) > 60)[0]
        box = Image.fromarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        scale = height / 20 * random.uniform(0.92, 1.08)
        size = max(2, round(box.width * scale)), max(2, round(box.height * scale))
        part = np.asarray(box.resize(size, Image.Resampling.BICUBIC)) / 255
        top, left = int(random.integers(0, round(0.08 * height) + 1)), max(0, canvas.shape[1] + gap)
        canvas = np.pad(canvas, ((0, 0), (0, max(0, left + size[0] - canvas.shape[1]))))
        place = canvas[top : top + size[1], left : left + size[0]]
        np.maximum(place, part, out=place)
        gap = round(height * random.uniform(*gaps))
    return canvas[: np.flatnonzero(canvas.any(axis=1))[-1] + 1]


def _write(
    digits: Sequence[Tensor],
    random: Generator,
    margin: tuple[float, float] = (0.3, 2),
    gaps: tuple[float, float] = (0.15, 0.5),
) -> tuple[Floats, Floats, Floats, float, tuple[int, int, int, int]]:
    # Paper, the ink's mask, its colour, the digits' height, and the number's box.
    height = random.uniform(60, 240)
    ink = _lay(digits, height, random, gaps)
    left, right, top, bottom = (round(height * random.uniform(*margin)) for _ in range(4))
    mask = np.pad(ink, ((top, bottom), (left, right)))
    paper = np.tile(random.uniform(0.75, 1, 3), (*mask.shape, 1))
    return paper, mask, random.uniform(0, 0.35, 3), height, (left, top, left + ink.shape[1], top + ink.shape[0])


def _ruled(digits: Sequence[Tensor], random: Generator, is_squared: bool) -> Floats:
    canvas, mask, ink, height, _ = _write(digits, random)
    period = height * (random.uniform(0.35, 0.7) if is_squared else random.uniform(0.9, 1.6))
    width = random.uniform(1, max(1.5, 0.02 * height))
    slope = np.tan(np.radians(random.uniform(-1.5, 1.5)))
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    rulings = np.zeros(mask.shape)
    for along in (y + slope * x, x - slope * y)[: 1 + is_squared]:
        distance = np.abs((along + random.uniform(0, period)) % period - period / 2)
        rulings = np.maximum(rulings, (width / 2 - distance + 0.5).clip(0, 1))
    colour = canvas[0, 0] * random.uniform(0.5, 0.85) * np.array([random.uniform(0.8, 1), random.uniform(0.9, 1), 1])
    return _paint(_paint(canvas, rulings, colour), mask, ink)


def _with_margin(picture: Floats, part: float) -> tuple[Floats, int]:
    margin = round(part * max(picture.shape))
    return np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), "edge"), margin


def _paint(canvas: Floats, mask: Floats, colour: Floats) -> Floats:
    return canvas + (colour - canvas) * mask[..., None]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100, help="of each kind and length")
    parser.add_argument("--digits", type=int, nargs="+", help="lengths of the numbers, in place of the above")
    parser.add_argument("--data_dir", default="data", help="folder for the data")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    datamodule = MNISTDataModule(arguments.data_dir)
    datamodule.prepare_data()
    datamodule.setup("test")
    images, labels = (torch.cat(parts) for parts in zip(*datamodule.test_dataloader(), strict=True))
    images = (255 * images[:, 0]).round().byte()
    model = MNISTClassifier.from_pretrained()

    def read(picture: Image.Image) -> str:
        try:
            return "".join(numbers(read_digits(picture, model)))
        except NoDigitError:
            return ""

    for kinds, lengths in (NUMBERS, arguments.digits or range(2, 10)), (SCENES, arguments.digits or (1, 2, 3, 5)):
        print("\n| pictures | digits right, % | numbers right, % |\n|---|---|---|")
        for name, scene in kinds.items():
            random = np.random.default_rng(0)
            answers, expected = [], []
            for length in [length for length in lengths for _ in range(arguments.pictures)]:
                chosen = torch.from_numpy(random.integers(0, len(images), length))
                answers.append(read(make_picture(scene, list(images[chosen]), random)))
                expected.append("".join(map(str, labels[chosen].tolist())))
            right = [answer == number for answer, number in zip(answers, expected, strict=True)]
            errors = float(char_error_rate(answers, expected))  # a digit too many or too few is one, too
            print(f"| {name} | {100 * (1 - errors):.1f} | {100 * np.mean(right):.1f} |", flush=True)

    def is_refused(picture: Image.Image) -> bool:
        return set(read(picture)) <= {"?"}

    print("\n| no digits | refused, % |\n|---|---|")
    fonts = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuS*[!y].ttf"))
    refused = {each: np.mean([is_refused(letter(each, font)) for font in fonts]) for each in string.ascii_letters}
    print(f"| letters | {100 * np.mean(list(refused.values())):.1f} |")
    unlike = [part for each, part in refused.items() if each not in "OoIlSsZzBbgqGDQTLYi"]
    print(f"| those that are like no digit | {100 * np.mean(unlike):.1f} |")
    random = np.random.default_rng(0)
    scribbles = [is_refused(scribble(random)) for _ in range(4 * arguments.pictures)]
    print(f"| scribbles | {100 * np.mean(scribbles):.1f} |")
    others = images[labels != 0][: 4 * arguments.pictures]
    turned = [is_refused(make_picture(plain, [digit], random).transpose(Transpose.ROTATE_90)) for digit in others]
    print(f"| digits other than 0, turned by 90 degrees | {100 * np.mean(turned):.1f} |")
    strange = [bool(reason) for part in images.split(1000) for reason in refuse(part.unsqueeze(1) / 255, REJECT)]
    print(f"| MNIST's own digits | {100 * np.mean(strange):.2f} |")


if __name__ == "__main__":
    main()
