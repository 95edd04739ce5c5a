"""Reads pictures of MNIST's test digits with the network of the package, and prints how many are read right."""

from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.text import char_error_rate
from torchvision.datasets import MNIST

from console import DATA, print_row
from mnist_lit import MNISTClassifier, MNISTDataModule
from mnist_lit.pictures import NoDigitError, numbers, read_digits
from mnist_lit.pictures.rejection import REJECT

pretrained = cache(MNISTClassifier.from_pretrained)


def load_test_digits() -> tuple[Tensor, Tensor]:
    """Return the test images, uint8 ``(10000, 28, 28)``, and their labels, int64 ``(10000,)``."""
    torch.set_num_threads(1)  # more do not make such a small network faster
    MNISTDataModule(DATA).prepare_data()
    mnist = MNIST(DATA, train=False)
    return mnist.data, mnist.targets


def read(picture: Image.Image, reject: float = REJECT) -> str:
    """Return the digits of a picture, ``?`` for each that is refused, and an empty text if none is found."""
    try:
        return "".join(numbers(read_digits(picture, pretrained(), reject)))
    except NoDigitError:
        return ""


def print_right(name: str, pictures: Iterable[tuple[Image.Image, str]], reject: float = REJECT) -> None:
    """Print a row of a table: percentages of the digits and of the numbers in pictures that are read right."""
    numbers_read = [(read(picture, reject), number) for picture, number in pictures]
    errors = float(char_error_rate(*map(list, zip(*numbers_read, strict=True))))  # one for each digit too many, too
    right = np.mean([answer == number for answer, number in numbers_read])
    print_row(name, f"{100 * (1 - errors):.2f}", f"{100 * right:.2f}")
