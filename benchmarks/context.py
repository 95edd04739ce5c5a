"""Train the network that tells digits from what is around them, and write the package's ``judge.ckpt``.

    pip install -e '.[bench]' && python benchmarks/context.py

It learns from the scenes of scenes.py and the pictures of photos.py, made of MNIST's training digits, one in ten turned
by 90 degrees, three in ten with light for dark, and a tenth of the digits with a gap; and from noise. A candidate is a
digit if its image is the image of a digit of the scene; of several that overlap the one that is most alike is, and
those that are nearly as much alike teach nothing. Two scenes side by side, or one above the other, are a third one,
made without drawing anything. With ``--folds 4`` a table tells what networks make of kinds of scenes that they have not
learned: each has learned three quarters of them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import photos
from console import DATA, make_parser, print_head, print_row
from drawing import Array, crop
from mnist_lit import MNISTDataModule
from mnist_lit.files import replacing
from mnist_lit.pictures.candidates import find_cut_and_joined, find_whole
from mnist_lit.pictures.components import Component
from mnist_lit.pictures.context import JUDGE, LOOKS, Candidates, describe, make_network, relate, take
from mnist_lit.pictures.detect import MIN_SIZE, resize
from mnist_lit.pictures.ink import find_ink
from mnist_lit.pictures.preparation import place
from mnist_lit.pictures.rejection import CROSSED_OUT, OTHER
from scenes import KINDS, PRINTED, make_picture, printed

SAME = 0.8  # cosine of two images of one digit, drawn by ``prepare`` from a picture and straight from MNIST
OTHER_PEN, CROSSED = 0.65, 0.2  # the same for photos, and for a digit that is crossed out: it stays, to be refused
SIMILAR = 0.75  # cosine of candidates that overlap the digit and are the digit nearly as well
SEED = 3  # of two, by validation digits and the tests: one training differs from the next by 0.1 points
ROUNDS = 3  # of training, each with the looks of the network before
BROKEN = 0.1  # of the digits
MAX_COMBINED = 200  # candidates of two pictures
HARD = {"crossed out": 3, "thin pen": 6, "underlined": 3, "touching": 4} | dict.fromkeys(
    ("thick pen", "clean", "doodle", "ledger", "after a word"), 2
)  # kinds of which more are drawn


class Example(NamedTuple):
    """What was found in one ink of a picture."""

    kind: str
    candidates: Candidates
    is_digit: Array  # (N,)
    weight: Array  # (N,), 0 for what teaches nothing
    size: Array  # width and height of the picture
    stage: tuple[int, bool]  # ink, and whether candidates were cut and joined: what is found together


def _blurred(image: Array | None) -> Array:
    soft = cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), 1).ravel()
    return np.asarray(soft / np.linalg.norm(soft))


def match(alike: Array, overlaps: Array, least: Array) -> tuple[Array, Array, float]:
    """Return which candidates are digits, each digit once, the weights of all, and how much they are alike in all.

    Args:
        alike: Cosines of candidates and digits, ``(N, D)``.
        overlaps: ``(N, N)``.
        least: Cosine of the same digit, ``(D,)``.
    """
    left, total = alike.copy(), 0.0
    is_digit, is_similar = np.zeros((2, len(alike)), bool)
    for _ in range(min(alike.shape)):
        row, column = np.unravel_index((left / least).argmax(), left.shape)
        if left[row, column] < least[column]:
            break
        is_digit[row], total = True, total + left[row, column]
        is_similar |= overlaps[row] & (alike[:, column] >= min(SIMILAR, least[column]))
        left[row], left[:, column] = -1, -1
    return is_digit, np.asarray(is_digit | ~is_similar, np.float32), total


def break_pen(digit: Tensor, random: Generator) -> Tensor:
    """Return a digit with a gap in its strokes."""
    broken, places = digit.clone(), (digit > 128).nonzero()
    row, column = places[int(random.integers(len(places)))].tolist()
    broken[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = 0
    return broken


def draw(kind: str, images: Tensor, labels: Tensor, random: Generator, turned: float) -> tuple[Array, Array, Array]:
    """Return a picture of a kind, RGB uint8 ``(H, W, 3)``, and of its digits the images, ``(D, 784)``, and labels."""
    count = 0 if kind == "noise" else 1 if kind in photos.KINDS else random.choice([1, 2, 3, 5])
    chosen = random.integers(0, len(images), count)
    digits, values = list(images[chosen]), labels[chosen].numpy()
    if kind == "noise":
        noise = random.integers(0, 256, (*random.integers(20, 500, 2), 3), dtype=np.uint8)
        picture = Image.fromarray(cv2.GaussianBlur(noise, (0, 0), random.choice([0.1, 1, 3])))
    elif kind in photos.KINDS:
        picture = photos.KINDS[kind](digits[0], random)
    else:
        if kind in PRINTED:
            digits = printed("".join(map(str, values)), random)
        is_broken = random.random(len(digits)) < BROKEN
        written = [break_pen(digit, random) if gap else digit for digit, gap in zip(digits, is_broken, strict=True)]
        picture = make_picture(KINDS[kind], written, random)
    turns = int(random.choice([0, 1, 3], p=[1 - turned, turned / 2, turned / 2]))
    pixels = np.ascontiguousarray(np.rot90(np.asarray(resize(picture.convert("RGB"))[0]), turns))
    truth = [_blurred(np.rot90(place(crop(digit.numpy()) / np.float32(255)), turns)) for digit in digits]
    return (255 - pixels if random.random() < 0.3 else pixels), np.reshape(truth, (-1, 784)), values


def find(
    kind: str, count: int, images: Tensor, labels: Tensor, random: Generator, turned: float = 0.1
) -> Iterator[tuple[Example, list[Component], Array]]:
    """Yield what is found in pictures of one kind, in both inks, before anything is cut and joined and after.

    Args:
        kind: Of picture.
        count: Of pictures, more of the kinds in ``HARD``.
        images: Of digits, uint8 ``(N, 28, 28)``.
        labels: Their labels.
        random: The generator.
        turned: Share of the pictures that are turned by 90 degrees.

    Yields:
        An example, its components, and the class of the digit that each is most alike, ``(N,)``.
    """
    for _ in range(count * HARD.get(kind, 1)):
        pixels, truth, values = draw(kind, images, labels, random, turned)
        least = np.full(len(truth), OTHER_PEN if kind in photos.KINDS else SAME)
        if kind == "crossed out":
            least[-1], values[-1] = CROSSED, CROSSED_OUT
        found = []
        for which, seen in enumerate((pixels, 255 - pixels)):
            ink = find_ink(seen)
            whole = find_whole(ink, max(MIN_SIZE[0], MIN_SIZE[1] * max(ink.shape)))
            for is_cut_and_joined, components in ((False, whole), (True, [*whole, *find_cut_and_joined(whole)])):
                if components:
                    candidates = describe(components)
                    alike = np.stack([_blurred(each.image) for each in components]) @ truth.T
                    matched = match(alike, candidates.overlaps, least)
                    classes = values[alike.argmax(axis=1)] if len(values) else np.full(len(components), OTHER)
                    found.append((components, classes, candidates, *matched, (which, is_cut_and_joined)))
        right = max(found, key=lambda each: each[5])[6][0] if found else 0
        for components, classes, candidates, is_digit, weight, _, stage in found:
            if stage[0] != right:  # a hole may look like a 0
                is_digit, weight = np.zeros_like(is_digit), np.ones_like(weight)
            size = np.array(pixels.shape[1::-1])
            yield Example(kind, candidates, is_digit, weight, size, stage), components, classes


def combine(made: Sequence[Example], count: int, random: Generator) -> list[Example]:
    """Return examples of two pictures side by side or one above the other, the second larger or smaller."""
    combined: list[Example] = []
    while len(combined) < count:
        one, other = (made[index] for index in random.integers(0, len(made), 2))
        if one.stage == other.stage and len(one.is_digit) + len(other.is_digit) < MAX_COMBINED:
            axis, scale = random.integers(2), np.exp(random.normal(0, 0.5))
            values = other.candidates.values.copy()
            values[:, [0, 1, 2, 3, 11]] *= scale  # box and stroke, in pixels
            values[:, [axis, axis + 2]] += one.size[axis]
            size = np.maximum(one.size, scale * other.size)
            size[axis] = one.size[axis] + scale * other.size[axis]
            overlaps = torch.block_diag(*(torch.from_numpy(each.candidates.overlaps) for each in (one, other))).numpy()
            candidates = Candidates(np.concatenate([one.candidates.values, values]), overlaps)
            is_digit, weight = np.append(one.is_digit, other.is_digit), np.append(one.weight, other.weight)
            combined.append(Example("", candidates, is_digit, weight, size, one.stage))
    return combined


def see(example: Example, network: nn.Module | None) -> list[Tensor]:
    """Return what a network is given at each look, each ``(N, 46)``; only the first for no network."""
    looks = [relate(example.candidates, max(example.size))]
    with torch.inference_mode():
        while network and len(looks) < LOOKS:
            odds = network(looks[-1])[:, 0].numpy()
            looks.append(relate(example.candidates, max(example.size), odds))
    return looks


def fit(inputs: Tensor, is_digit: Tensor, weights: Tensor, steps: int = 9000) -> nn.Sequential:
    """Return a network trained on inputs that are standardized, with the standardization in its first layer."""
    network = make_network()
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0) + 1e-3
    inputs = (inputs - mean) / deviation
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(len(inputs), (512,))
        loss = F.binary_cross_entropy_with_logits(network(inputs[batch])[:, 0], is_digit[batch], weights[batch])
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
    """Return a network trained on examples and as many that are combined from them, with its own looks of before."""
    made = made + combine(made, len(made), random)
    network: nn.Sequential | None = None
    for _ in range(ROUNDS):
        looks = [(look, each.is_digit, each.weight) for each in made for look in see(each, network)]
        inputs, is_digit, weights = (
            torch.cat([torch.as_tensor(part).float() for part in parts]) for parts in zip(*looks, strict=True)
        )
        network = fit(inputs, is_digit, weights)
    assert network
    return network


def count_mistakes(made: Sequence[Example], network: nn.Module) -> tuple[int, int, int]:
    """Return the number of digits in examples, of those that are missed, and of other things taken for digits."""
    digits = missed = extra = 0
    for example in made:
        with torch.inference_mode():
            odds = network(see(example, network)[-1])[:, 0].numpy()
        taken = [index for index in take(odds, example.candidates.overlaps) if odds[index] > 0]
        right = int(((example.weight == 0) | example.is_digit)[taken].sum())
        digits, missed = digits + int(example.is_digit.sum()), missed + max(0, int(example.is_digit.sum()) - right)
        extra += len(taken) - right
    return digits, missed, extra


if __name__ == "__main__":
    pictures, folds = (40, "of each kind"), (0, "parts of the kinds, each left out once, for the table")
    options = make_parser(__doc__, pictures=pictures, folds=folds, output=(JUDGE, "the file")).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    datamodule = MNISTDataModule(DATA, val_size=5000)
    datamodule.prepare_data()
    datamodule.setup("fit")
    made: list[Example] = []
    kinds = [*KINDS, *photos.KINDS, "noise"]
    for number, kind in enumerate(kinds):
        found = find(kind, options.pictures, *datamodule.train_data, np.random.default_rng([4, number]))
        made += [example for example, _, _ in found]
    if options.folds:
        print_head("kinds left out", "digits", "missed", "other things taken for digits")
    for fold in range(options.folds):
        left_out = kinds[fold :: options.folds]
        network = train([each for each in made if each.kind not in left_out], np.random.default_rng(SEED))
        for kind in left_out:
            print_row(kind, *map(str, count_mistakes([each for each in made if each.kind == kind], network)))
    weights = train(made, np.random.default_rng(SEED)).state_dict()
    with replacing(options.output) as unfinished:
        torch.save(weights, unfinished)
    print(f"Wrote {options.output}")
