"""Train the network that tells digits from non-digits, and write ``rejector.ckpt`` of the package.

    pip install -e '.[bench]' && python benchmarks/rejector.py

Outlier exposure (Hendrycks, Mazeika and Dietterich 2019): it learns from digits, MNIST's and those of Hershey's fonts
(1967); from outliers: other signs of these fonts and random curves, both bent, turned or mirrored digits, pairs and
parts of digits, crossed-out digits, and stains; and from what is found in the scenes of context.py, with the network
that the package has. The limit for a refusal comes from 5,000 digits held out. Takes three quarters of an hour on one
core.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from console import DATA, make_parser
from context import Example, find
from drawing import INK, Array, crop
from mnist_lit import MNISTDataModule
from mnist_lit.augment import RandomDistortion
from mnist_lit.files import replacing
from mnist_lit.pictures import NoDigitError, preprocess
from mnist_lit.pictures.components import Component
from mnist_lit.pictures.rejection import CROSSED_OUT, OTHER, PART, REJECTOR, SEVERAL, classify, make_network, scores
from pages import cross_out
from photos import KINDS as PHOTOS
from photos import clean, low_resolution, thick_pen, thin_pen
from scenes import KINDS
from strokes import NON_DIGITS, Strokes, curve, draw, forms_of, glyphs, to_image

_TURNS: list[tuple[Callable[[Tensor], Tensor], str]] = [  # and the digits of which each leaves a non-digit
    (lambda image: image.rot90(1), "123456789"),
    (lambda image: image.rot90(3), "123456789"),
    (lambda image: image.rot90(2), "347"),
    (lambda image: image.fliplr(), "34679"),
    (lambda image: image.flipud(), "2457"),
]
_DIGITS, _OUTLIERS, _CANDIDATES = 128, 224, 96  # in a batch
_MOST = 40  # candidates of an ink that are no digits
_SURE = -0.99  # likeness: below, a candidate is no digit for the package's network, and is shown a tenth as often


def _pair(left: Tensor, right: Tensor, random: Generator) -> Tensor:
    # They touch, or nearly so, or overlap.
    digits = [crop(left.numpy()), crop(right.numpy())]
    height = max(map(len, digits))
    first, second = (int(random.integers(height - len(digit) + 1)) for digit in digits)  # pixels above each
    overlap = min(int(random.integers(-1, 5)), *(digit.shape[1] - 1 for digit in digits))
    width = digits[0].shape[1] + digits[1].shape[1] - overlap
    canvases = [np.zeros((height, width), np.uint8) for _ in digits]
    canvases[0][first:, :][: len(digits[0]), : digits[0].shape[1]] = digits[0]
    canvases[1][second:, -digits[1].shape[1] :][: len(digits[1])] = digits[1]
    return to_image(np.maximum(*canvases))


def _part(digit: Tensor, random: Generator) -> Tensor | None:
    turns = int(random.integers(4))
    pixels = np.rot90(crop(digit.numpy()), turns)
    half = np.rot90(pixels[: round(len(pixels) * random.uniform(0.35, 0.65))], -turns)
    is_small = (half > INK).sum() < 8 or min(half.shape) < 6
    return None if is_small else to_image(crop(half))


def _crossed_out(digit: Tensor, random: Generator) -> Tensor:
    pixels = crop(digit.numpy())
    large = cv2.resize(pixels, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    return to_image((255 * cross_out(large / 255, random)).clip(0, 255).astype(np.uint8))


def _stain(random: Generator) -> Tensor:
    # The largest spot, or all spots, of a random field.
    field = cv2.GaussianBlur(random.normal(size=(64, 64)), (0, 0), random.uniform(2, 12))
    spots = (field > np.quantile(field, random.uniform(0.5, 0.9))).astype(np.uint8)
    if random.random() < 0.6:
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(spots)
        spots = (labels == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
    return to_image(crop(255 * spots))


def outlier(images: Tensor, labels: Tensor, signs: Sequence[Strokes], random: Generator) -> tuple[Tensor, int]:
    """Return a random one, uint8 ``(28, 28)``, and its class."""
    one, other = random.integers(len(images), size=2)
    turns = [turn for turn, digits in _TURNS if str(int(labels[one])) in digits]
    kinds: list[tuple[Callable[[], Tensor | None], int, float]] = [  # class, share
        (lambda: draw(curve(random), random), OTHER, 0.39),
        (lambda: draw(signs[int(random.integers(len(signs)))], random), OTHER, 0.29),
        (lambda: turns[random.integers(len(turns))](images[one]) if turns else None, OTHER, 0.09),
        (lambda: _pair(images[one], images[other], random), SEVERAL, 0.09),
        (lambda: _part(images[one], random), PART, 0.04),
        (lambda: _crossed_out(images[one], random), CROSSED_OUT, 0.06),
        (lambda: _stain(random), OTHER, 0.04),
    ]
    make, name, _ = kinds[random.choice(len(kinds), p=[share for *_, share in kinds])]
    made = make()
    return outlier(images, labels, signs, random) if made is None else (made, name)


def teach(
    example: Example, components: Sequence[Component], digits: Array, random: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the images, uint8 ``(N, 28, 28)``, of what is found in one ink, their classes, and how often to show each.

    Args:
        example: By ``find``.
        components: The same.
        digits: The class of each, if it is a digit.
        random: Chooses 40 of those that are no digits.
    """
    box, likeness = example.candidates.values[:, :4], example.candidates.values[:, 4]
    size = np.maximum(box[:, 3] - box[:, 1], 0.6 * (box[:, 2] - box[:, 0]))
    overlaps = example.candidates.overlaps[:, example.is_digit]
    is_larger = (overlaps & (size[:, None] >= size[example.is_digit])).any(axis=1)
    count = overlaps.sum(axis=1)
    others = np.where(count > 1, SEVERAL, np.where((count == 1) & ~is_larger, PART, OTHER))
    classes = np.where(example.is_digit, digits, others)
    # A stroke that is like a 1, or a hole like a 0, is told from one by what is around it, not by its image.
    is_known = (example.weight > 0) & (example.is_digit | (likeness < 0))
    chosen = np.append(
        np.flatnonzero(is_known & example.is_digit),
        random.permutation(np.flatnonzero(is_known & ~example.is_digit))[:_MOST],
    )
    images = (255 * np.stack([each.image for each in components])[chosen]).round().astype(np.uint8)
    rarely = (classes == OTHER) & (likeness <= _SURE)
    return torch.from_numpy(images), torch.from_numpy(classes[chosen]), torch.from_numpy(1 - 0.9 * rarely[chosen])


if __name__ == "__main__":
    counts = {"outliers": (150_000, "how many to draw"), "pictures": (40, "of each kind"), "epochs": (26, "of digits")}
    options = make_parser(__doc__, **counts, output=(REJECTOR, "the file")).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random = np.random.default_rng(0)

    datamodule = MNISTDataModule(DATA, val_size=5000)
    datamodule.prepare_data()
    datamodule.setup("fit")
    images, labels = datamodule.train_data
    signs = glyphs(NON_DIGITS)
    made = [outlier(images, labels, signs, random) for _ in range(options.outliers)]
    outliers, of_outliers = torch.stack([image for image, _ in made]), torch.tensor([name for _, name in made])
    some = torch.from_numpy(random.choice(len(images), min(4_000, options.outliers), replace=False))
    forms = [forms_of(digit) for digit in range(10)]
    which = torch.from_numpy(random.integers(10, size=len(some)))
    drawn = [draw(forms[digit][int(random.integers(len(forms[digit])))], random) for digit in which.tolist()]
    kinds = thin_pen, thick_pen, low_resolution, clean
    pictured, kept = [], []
    for index in some.tolist():
        with suppress(NoDigitError):  # a thin or small digit that is lost
            picture = kinds[random.integers(len(kinds))](images[index], random)
            pictured.append((255 * preprocess(picture)[0]).round().byte())
            kept.append(index)
    found = [
        teach(*each, random)
        for number, kind in enumerate([*KINDS, *PHOTOS])
        for each in find(kind, options.pictures, images, labels, np.random.default_rng([9, number]), turned=0)
        if each[0].stage[1]
    ]
    candidates, classes, shares = (torch.cat(parts) for parts in zip(*found, strict=True))
    digits = torch.cat([images, torch.stack(pictured), torch.stack(drawn)])
    labels = torch.cat([labels, labels[kept], which])

    network = make_network()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    steps = math.ceil(len(digits) / _DIGITS) * options.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.002, total_steps=steps)
    distort = RandomDistortion(rotation=8, shift=1, scale=0.1, shear=0.15, elastic=0.6)
    for epoch in range(options.epochs):
        for indices in torch.randperm(len(digits)).split(_DIGITS):
            others = torch.randint(len(outliers), (_OUTLIERS,))
            some = torch.multinomial(shares, _CANDIDATES, replacement=True)
            batch = distort(torch.cat([digits[indices], outliers[others], candidates[some]]).unsqueeze(1) / 255)
            loss = F.cross_entropy(network(batch), torch.cat([labels[indices], of_outliers[others], classes[some]]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"Epoch {epoch + 1}: loss of the last batch {float(loss.detach()):.4f}", flush=True)

    network.half().float()  # rounded as in the file
    held_out = torch.cat([batch for batch, _ in datamodule.val_dataloader()])
    held_out_scores = scores(*classify(held_out, network)).sort().values
    weights = {name: weight.half() for name, weight in network.state_dict().items()}
    with replacing(options.output) as unfinished:
        torch.save({"state_dict": weights, "scores": held_out_scores}, unfinished)
    print(f"Wrote {options.output}")
