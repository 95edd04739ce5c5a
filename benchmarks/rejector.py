"""Train the network that tells digits from non-digits, and write ``rejector.ckpt`` of the package.

    pip install -e '.[bench]' && python benchmarks/rejector.py

Outlier exposure (Hendrycks, Mazeika and Dietterich 2019): it learns from digits, MNIST's and those of Hershey's fonts
(1967), and from outliers: other signs of these fonts and random curves, both bent, turned or mirrored digits, pairs and
parts of digits, and stains. The limit for a refusal comes from 5,000 digits held out. Takes half an hour on one core.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from HersheyFonts import HersheyFonts
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from console import DATA, make_parser
from drawing import INK, Floats, crop, overlay, polyline
from mnist_lit import MNISTDataModule
from mnist_lit.augment import RandomDistortion
from mnist_lit.files import replacing
from mnist_lit.network import MLP
from mnist_lit.pictures import preprocess
from mnist_lit.pictures.preparation import place
from mnist_lit.pictures.rejection import REJECTOR, score_images
from photos import clean, low_resolution, thick_pen, thin_pen

Strokes = Sequence[Floats]  # each (points, 2)
_NON_DIGITS = "!#$%&()*+<=>?@ACEFGHJKLMNPRTUVWXY[]^acdefhjkmnprtuvwxy{}~"  # and no specks
# Fonts that have digits.
FONTS = "futural", "futuram", "rowmans", "rowmand", "rowmant", "timesr", "timesrb", "timesi", "timesib", "scripts"
_TURNS: list[tuple[Callable[[Tensor], Tensor], str]] = [  # and the digits of which each leaves a non-digit
    (lambda image: image.rot90(1), "123456789"),
    (lambda image: image.rot90(3), "123456789"),
    (lambda image: image.rot90(2), "347"),
    (lambda image: image.fliplr(), "34679"),
    (lambda image: image.flipud(), "2457"),
]
HANDS: dict[int, list[list[list[tuple[float, float]]]]] = {  # forms that are rare in MNIST: strokes of corners (x, y)
    1: [[[(0.15, 0.45), (0.55, 0), (0.55, 1.6)]], [[(0.1, 0.5), (0.6, 0), (0.6, 1.6)], [(0.2, 1.6), (1, 1.6)]]],
    4: [
        [[(0.1, 0), (0.05, 0.8), (0.9, 0.8)], [(0.8, 0), (0.8, 1.6)]],
        [[(0.5, 0), (0, 1), (1, 1)], [(0.7, 0.6), (0.7, 1.6)]],
    ],
    7: [
        [[(0, 0.05), (0.95, 0), (0.35, 1.6)], [(0.2, 0.8), (0.9, 0.75)]],
        [[(0.05, 0.25), (0.05, 0), (1, 0), (0.45, 0.8), (0.35, 1.6)]],
    ],
}
_SIDE = 160  # pixels of a drawing, 8 for each of MNIST's box
_DIGITS = 128  # in a batch, with twice as many outliers


def glyphs(fonts: Sequence[str], characters: str) -> list[Strokes]:
    """Return the signs that Hershey's fonts have for some characters, without specks."""
    signs: list[Strokes] = []
    font = HersheyFonts()
    for name in fonts:
        font.load_default_font(name)
        found = [[np.array(stroke, float) for stroke in glyph.strokes] for glyph in font.glyphs_for_text(characters)]
        signs += [strokes for strokes in found if strokes and np.ptp(np.concatenate(strokes), axis=0).max() > 5]
    return signs


def forms_of(digit: int) -> list[Strokes]:
    """Return the forms of a digit in Hershey's fonts, and those that are rare in MNIST."""
    return glyphs(FONTS, str(digit)) + [[np.array(line) for line in form] for form in HANDS.get(digit, [])]


def curve(random: Generator) -> Strokes:
    """Return one to three lines: angular, smooth, wandering, or arcs of ellipses; none as narrow as a 1."""
    kind = random.integers(4)
    strokes = []
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if kind < 2:  # angular or smooth
            line = polyline(random.uniform(size=(random.integers(2, 9) + kind, 2)), 120)
            if kind == 1:
                line[:] = cv2.GaussianBlur(line, (1, 81), random.uniform(2, 10), borderType=cv2.BORDER_REPLICATE)
        elif kind == 2:
            changes = cv2.GaussianBlur(random.normal(size=(random.integers(30, 120), 1)), (1, 13), 2)
            angles = random.uniform(0, 2 * np.pi) + np.cumsum(random.uniform(0.2, 1.5) * changes)
            line = random.uniform(size=2) + 0.04 * np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)
        else:
            growth = random.choice([0, 0.5])  # an arc that is far from a 0, or a spiral
            angles = random.uniform(0, 2 * np.pi) + np.linspace(0, random.uniform(1.5, 14 if growth else 4.5), 80)
            radii = random.uniform(0.1, 0.5, 2) + np.linspace(0, growth, 80)[:, None]
            line = random.uniform(size=2) + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        strokes.append(line)
    points = np.concatenate(strokes)
    longer, shorter = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return strokes if shorter > 0.2 * longer else curve(random)


def draw(strokes: Strokes, random: Generator) -> Tensor:
    """Return bent strokes as an image, uint8 ``(28, 28)``, with a pen of 1.4 to 3.2 pixels."""
    lines = [polyline(line, 12 * len(line) - 11 if len(line) < 40 else len(line)) for line in strokes]
    points = np.concatenate(lines)
    middle, size = (points.max(axis=0) + points.min(axis=0)) / 2, np.ptp(points, axis=0).max()
    angle, shear, width = np.radians(random.uniform(-12, 12)), random.uniform(-0.2, 0.2), random.uniform(0.75, 1.25)
    affine = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [[width, shear], [0, 1]]
    points = (points - middle) / size @ affine.T
    for centre, push in zip(random.uniform(-0.6, 0.6, (4, 2)), random.normal(0, 0.05, (4, 2)), strict=True):
        points += push * np.exp(-((points - centre) ** 2).sum(axis=1, keepdims=True) / 0.1)
    pen = random.uniform(1.4, 3.2) / 20  # of MNIST's box for the ink
    scale = _SIDE * (1 - pen) / np.ptp(points, axis=0).max()
    canvas = np.zeros(np.ceil(scale * np.ptp(points, axis=0) + _SIDE * pen + 2).astype(int)[::-1], np.uint8)
    pixels = 16 * (scale * (points - points.min(axis=0)) + _SIDE / 2 * pen + 0.5)  # 16 for each: 4 binary places
    corners = np.split(pixels.round().astype(np.int32), np.cumsum([len(line) for line in lines])[:-1])
    cv2.polylines(canvas, corners, False, 255, round(_SIDE * pen), cv2.LINE_AA, shift=4)
    return _place(canvas)


def _pair(left: Tensor, right: Tensor, random: Generator) -> Tensor:
    # They touch, or nearly so, or overlap.
    digits = [crop(left.numpy()), crop(right.numpy())]
    height = max(map(len, digits))
    first, second = (int(random.integers(height - len(digit) + 1)) for digit in digits)  # pixels above each
    overlap = min(int(random.integers(-1, 5)), *(digit.shape[1] - 1 for digit in digits))
    canvas = overlay(np.zeros((height, 0), np.uint8), digits[0], first, 0)
    return _place(overlay(canvas, digits[1], second, canvas.shape[1] - overlap))


def _part(digit: Tensor, random: Generator) -> Tensor | None:
    turns = int(random.integers(4))
    pixels = np.rot90(crop(digit.numpy()), turns)
    half = np.rot90(pixels[: round(len(pixels) * random.uniform(0.35, 0.65))], -turns)
    is_small = (half > INK).sum() < 8 or min(half.shape) < 6
    return None if is_small else _place(crop(half))


def _stain(random: Generator) -> Tensor:
    # The largest spot, or all spots, of a random field.
    field = cv2.GaussianBlur(random.normal(size=(64, 64)), (0, 0), random.uniform(2, 12))
    spots = (field > np.quantile(field, random.uniform(0.5, 0.9))).astype(np.uint8)
    if random.random() < 0.6:
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(spots)
        spots = (labels == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
    return _place(crop(255 * spots))


def outlier(images: Tensor, labels: Tensor, signs: Sequence[Strokes], random: Generator) -> Tensor:
    """Return a random one, uint8 ``(28, 28)``."""
    one, other = random.integers(len(images), size=2)
    turns = [turn for turn, digits in _TURNS if str(int(labels[one])) in digits]
    kinds: dict[Callable[[], Tensor | None], float] = {
        lambda: draw(curve(random), random): 0.42,
        lambda: draw(signs[int(random.integers(len(signs)))], random): 0.32,
        lambda: turns[random.integers(len(turns))](images[one]) if turns else None: 0.09,
        lambda: _pair(images[one], images[other], random): 0.09,
        lambda: _part(images[one], random): 0.04,
        lambda: _stain(random): 0.04,
    }
    made = list(kinds)[random.choice(len(kinds), p=list(kinds.values()))]()
    return outlier(images, labels, signs, random) if made is None else made


def _place(pixels: Floats) -> Tensor:
    return torch.from_numpy((255 * place((pixels / 255).astype(np.float32))).round().astype(np.uint8))


if __name__ == "__main__":
    counts = {"outliers": (300_000, "how many to draw"), "epochs": (100, "of the digits, with twice as many outliers")}
    options = make_parser(__doc__, **counts, output=(REJECTOR, "the file")).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random = np.random.default_rng(0)

    datamodule = MNISTDataModule(DATA, val_size=5000)
    datamodule.prepare_data()
    datamodule.setup("fit")
    images, labels = datamodule.train_data
    signs = glyphs(HersheyFonts().default_font_names, _NON_DIGITS)
    outliers = torch.stack([outlier(images, labels, signs, random) for _ in range(options.outliers)])
    some = torch.from_numpy(random.choice(len(images), min(10_000, options.outliers), replace=False))
    forms = [forms_of(digit) for digit in range(10)]
    which = torch.from_numpy(random.integers(10, size=len(some)))
    drawn = [draw(forms[digit][int(random.integers(len(forms[digit])))], random) for digit in which.tolist()]
    kinds = thin_pen, thick_pen, low_resolution, clean
    pictures = (kinds[random.integers(len(kinds))](image, random) for image in images[some])
    pictured = [(255 * preprocess(picture)[0]).round().byte() for picture in pictures]
    digits = torch.cat([images, torch.stack(pictured), torch.stack(drawn)])
    labels = torch.cat([labels, labels[some], which])

    config: dict[str, Any] = {"hidden_sizes": (512, 128), "activation": "silu", "upright": False}
    network = MLP(**config)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    steps = math.ceil(len(digits) / _DIGITS) * options.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.002, total_steps=steps)
    distort = RandomDistortion(rotation=8, shift=1, scale=0.1, shear=0.15, elastic=0.6)
    for epoch in range(options.epochs):
        for indices in torch.randperm(len(digits)).split(_DIGITS):
            others = outliers[torch.randint(len(outliers), (2 * len(indices),))]
            batch = distort(torch.cat([digits[indices], others]).unsqueeze(1) / 255)
            targets = torch.cat([labels[indices], torch.full((len(others),), 10)])
            # Outliers are an eleventh class, whose logit is 0, so that the energy is the logarithm of a digit's odds.
            loss = F.cross_entropy(F.pad(network(batch), (0, 1)), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"Epoch {epoch + 1}: loss of the last batch {float(loss.detach()):.4f}", flush=True)

    network.half().float()  # rounded as in the file
    held_out = torch.cat([batch for batch, _ in datamodule.val_dataloader()])
    scores = score_images(held_out, network)[0].sort().values
    weights = {name: weight.half() for name, weight in network.state_dict().items()}
    with replacing(options.output) as unfinished:
        torch.save({"hyper_parameters": config, "state_dict": weights, "scores": scores}, unfinished)
    print(f"Wrote {options.output}")
