"""Train the network that tells digits from non-digits, and write ``rejector.ckpt`` of the package.

    pip install -e '.[bench]' && python benchmarks/rejector.py

Outlier exposure (Hendrycks, Mazeika and Dietterich 2019): it learns from digits, MNIST's and those of Hershey's fonts
(1967), and from outliers: other signs of these fonts and random curves, both bent, turned or mirrored digits, pairs and
parts of digits, crossed-out digits, and stains. The limit for a refusal comes from 5,000 digits held out. Takes half an
hour on one core.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from console import DATA, make_parser
from drawing import INK, crop
from mnist_lit import MNISTDataModule
from mnist_lit.augment import RandomDistortion
from mnist_lit.files import replacing
from mnist_lit.network import MLP
from mnist_lit.pictures import NoDigitError, preprocess
from mnist_lit.pictures.rejection import REJECTOR, energies, scores
from pages import cross_out
from photos import clean, low_resolution, thick_pen, thin_pen
from strokes import NON_DIGITS, Strokes, curve, draw, forms_of, glyphs, to_image

_TURNS: list[tuple[Callable[[Tensor], Tensor], str]] = [  # and the digits of which each leaves a non-digit
    (lambda image: image.rot90(1), "123456789"),
    (lambda image: image.rot90(3), "123456789"),
    (lambda image: image.rot90(2), "347"),
    (lambda image: image.fliplr(), "34679"),
    (lambda image: image.flipud(), "2457"),
]
_DIGITS = 128  # in a batch, with twice as many outliers


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


def outlier(images: Tensor, labels: Tensor, signs: Sequence[Strokes], random: Generator) -> Tensor:
    """Return a random one, uint8 ``(28, 28)``."""
    one, other = random.integers(len(images), size=2)
    turns = [turn for turn, digits in _TURNS if str(int(labels[one])) in digits]
    kinds: dict[Callable[[], Tensor | None], float] = {
        lambda: draw(curve(random), random): 0.39,
        lambda: draw(signs[int(random.integers(len(signs)))], random): 0.29,
        lambda: turns[random.integers(len(turns))](images[one]) if turns else None: 0.09,
        lambda: _pair(images[one], images[other], random): 0.09,
        lambda: _part(images[one], random): 0.04,
        lambda: _crossed_out(images[one], random): 0.06,
        lambda: _stain(random): 0.04,
    }
    made = list(kinds)[random.choice(len(kinds), p=list(kinds.values()))]()
    return outlier(images, labels, signs, random) if made is None else made


if __name__ == "__main__":
    counts = {"outliers": (150_000, "how many to draw"), "epochs": (45, "of the digits, with twice as many outliers")}
    options = make_parser(__doc__, **counts, output=(REJECTOR, "the file")).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random = np.random.default_rng(0)

    datamodule = MNISTDataModule(DATA, val_size=5000)
    datamodule.prepare_data()
    datamodule.setup("fit")
    images, labels = datamodule.train_data
    signs = glyphs(NON_DIGITS)
    outliers = torch.stack([outlier(images, labels, signs, random) for _ in range(options.outliers)])
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
    digits = torch.cat([images, torch.stack(pictured), torch.stack(drawn)])
    labels = torch.cat([labels, labels[kept], which])

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
    held_out_scores = scores(*energies(held_out, network)[:2]).sort().values
    weights = {name: weight.half() for name, weight in network.state_dict().items()}
    with replacing(options.output) as unfinished:
        torch.save({"hyper_parameters": config, "state_dict": weights, "scores": held_out_scores}, unfinished)
    print(f"Wrote {options.output}")
