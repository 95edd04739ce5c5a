"""Train the network that tells digits from what is around them, and write the package's ``judge.ckpt``.

    pip install -e '.[bench]' && python benchmarks/context.py

It learns from the scenes of scenes.py, made of MNIST's training digits, one in ten turned by 90 degrees, and three in
ten with light for dark. What is found in them is a digit if its image is the image of a digit of the scene. Two scenes
side by side, or one above the other, are a third one, made without drawing anything. The table tells what networks
make of kinds of scenes that they have not learned: each has learned three quarters of them. Takes 10 minutes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from console import DATA, make_parser, print_head, print_row
from drawing import Array, crop
from mnist_lit import MNISTDataModule
from mnist_lit.files import replacing
from mnist_lit.pictures.choice import find_candidates, without_marks
from mnist_lit.pictures.components import Component
from mnist_lit.pictures.context import JUDGE, describe, make_network, relate
from mnist_lit.pictures.detect import MIN_SIZE, resize
from mnist_lit.pictures.ink import find_ink
from mnist_lit.pictures.preparation import place
from mnist_lit.pictures.refinement import refine
from scenes import KINDS, PRINTED, make_picture, printed

SAME = 0.8  # cosine of two images of one digit, drawn by ``prepare`` from a picture and straight from MNIST
CROSSED = 0.2  # the same for a digit that is crossed out: it stays, to be refused


class Example(NamedTuple):
    """What was found in one ink of a picture."""

    kind: str  # of scene
    described: Array  # (N, 10)
    is_digit: Array  # (N,)
    size: Array  # width and height of the picture
    stage: tuple[int, bool]  # ink, and whether it is refined: what is found together


def _blurred(image: Array | None) -> Array:
    soft = cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), 1).ravel()
    return np.asarray(soft / np.linalg.norm(soft))


def match(components: Sequence[Component], digits: Array, least: Array) -> tuple[Array, float]:
    """Return which components are digits ``(D, 784)``, each digit once, and how much they are alike in all."""
    alike = np.stack([_blurred(each.image) for each in components]) @ digits.T
    is_digit, total = np.zeros(len(components), bool), 0.0
    for _ in range(min(alike.shape)):
        row, column = np.unravel_index((alike / least).argmax(), alike.shape)
        if alike[row, column] < least[column]:
            break
        is_digit[row], total = True, total + alike[row, column]
        alike[row], alike[:, column] = -1, -1
    return is_digit, total


def examples(kind: str, count: int, images: Tensor, labels: Tensor, random: Generator) -> list[Example]:
    """Return what is found in pictures of one kind, in both inks, before it is refined and after."""
    made: list[Example] = []
    for _ in range(count):
        chosen = random.integers(0, len(images), random.choice([1, 2, 3, 5]))
        number = "".join(map(str, labels[chosen].tolist()))
        digits = printed(number, random) if kind in PRINTED else list(images[chosen])
        turns = int(random.choice([0, 1, 3], p=[0.9, 0.05, 0.05]))
        picture, _ = resize(make_picture(KINDS[kind], digits, random).convert("RGB"))
        pixels = np.ascontiguousarray(np.rot90(np.asarray(picture), turns))
        if random.random() < 0.3:
            pixels = 255 - pixels
        truth = np.stack([_blurred(np.rot90(place(crop(digit.numpy()) / np.float32(255)), turns)) for digit in digits])
        least = np.full(len(digits), SAME)
        if kind == "crossed out":
            least[-1] = CROSSED
        found = []
        for which, seen in enumerate((pixels, 255 - pixels)):
            ink = find_ink(seen)
            first = find_candidates(ink, max(MIN_SIZE[0], MIN_SIZE[1] * max(ink.shape)))
            sure = [each for each in first if max(each.likeness, each.turned) > 0 and each.levels > 1]
            for is_refined, components in enumerate((first, refine(first, sure, ink) if sure else [])):
                if candidates := without_marks(components):
                    found.append((*match(candidates, truth, least), candidates, (which, bool(is_refined))))
        right = max(found, key=lambda each: each[1])[3][0] if found else 0
        for is_digit, _, candidates, stage in found:
            is_digit &= stage[0] == right  # a hole may look like a 0
            made.append(Example(kind, describe(candidates), is_digit, np.array(pixels.shape[1::-1]), stage))
    return made


def combine(made: Sequence[Example], count: int, random: Generator) -> list[Example]:
    """Return examples of two pictures side by side or one above the other, the second larger or smaller."""
    combined: list[Example] = []
    while len(combined) < count:
        one, other = (made[index] for index in random.integers(0, len(made), 2))
        if one.stage == other.stage:
            axis, scale = random.integers(2), np.exp(random.normal(0, 0.5))
            described = other.described.copy()
            described[:, :4] *= scale
            described[:, [axis, axis + 2]] += one.size[axis]
            size = np.maximum(one.size, scale * other.size)
            size[axis] = one.size[axis] + scale * other.size[axis]
            described, is_digit = np.concatenate([one.described, described]), np.append(one.is_digit, other.is_digit)
            combined.append(Example("", described, is_digit, size, one.stage))
    return combined


def see(made: Sequence[Example], network: nn.Module | None = None) -> Tensor:
    """Return what the network is given, ``(N, 22)``: at first, or when it looks for the second time."""
    rows = []
    for example in made:
        row = relate(example.described, max(example.size))
        if network:
            with torch.inference_mode():
                likely = network(row).sigmoid()[:, 0].numpy()
            row = relate(example.described, max(example.size), likely)
        rows.append(row)
    return torch.cat(rows)


def fit(inputs: Tensor, is_digit: Tensor, steps: int) -> nn.Sequential:
    """Return a network trained on inputs that are standardized, with the standardization in its first layer."""
    network = make_network()
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0) + 1e-3
    inputs = (inputs - mean) / deviation
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(len(inputs), (512,))
        loss = F.binary_cross_entropy_with_logits(network(inputs[batch])[:, 0], is_digit[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        weight, bias, *_ = network.parameters()
        weight.div_(deviation)
        bias.sub_(weight @ mean)
    return network


def train(made: list[Example], random: Generator) -> nn.Sequential:
    """Return a network trained on examples and as many that are combined from them, seen once and twice."""
    made = made + combine(made, len(made), random)
    is_digit = torch.from_numpy(np.concatenate([example.is_digit for example in made]).astype(np.float32))
    once = see(made)
    twice = see(made, fit(once, is_digit, 3000))
    return fit(torch.cat([once, twice]), is_digit.repeat(2), 6000)


if __name__ == "__main__":
    parser = make_parser(__doc__, pictures=(40, "of each kind"), output=(JUDGE, "the file"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    datamodule = MNISTDataModule(DATA, val_size=5000)
    datamodule.prepare_data()
    datamodule.setup("fit")
    images, labels = datamodule.train_data
    made = []
    for number, kind in enumerate(KINDS):
        count = options.pictures * (3 if kind == "crossed out" else 1)  # the only kind with what is to be refused
        made += examples(kind, count, images, labels, np.random.default_rng([1, number]))
    print_head("kinds left out", "digits", "missed", "other things", "taken for digits")
    for quarter in range(4):
        left_out = list(KINDS)[quarter::4]
        network = train([each for each in made if each.kind not in left_out], np.random.default_rng(0))
        for kind in left_out:
            tests = [each for each in made if each.kind == kind]
            right = np.concatenate([each.is_digit for each in tests])
            with torch.inference_mode():
                taken = (network(see(tests, network)) > 0)[:, 0].numpy()
            missed, extra = f"{(right & ~taken).sum()}", f"{(taken & ~right).sum()}"
            print_row(kind, f"{right.sum()}", missed, f"{(~right).sum()}", extra)
    weights = train(made, np.random.default_rng(0)).state_dict()
    with replacing(options.output) as unfinished:
        torch.save(weights, unfinished)
    print(f"Wrote {options.output}")
