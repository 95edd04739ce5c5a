"""Measure how long a picture takes to read on one core, and how much memory it needs.

    python benchmarks/reading.py

The pictures are rows of MNIST's test digits on paper. Memory is the peak above what the process has before it reads a
picture. Needs Linux.
"""

import time
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from console import make_parser, print_head, print_row
from photos import load_test_digits, read

SIZES = {(1000, 750): (1, 5), (4000, 3000): (5, 8)}  # width and height in pixels: rows, and digits in each


def draw(images: Tensor, size: tuple[int, int], noise: float, random: Generator) -> Image.Image:
    """Write digits in rows, and add noise: its standard deviation, of 255."""
    rows, columns = SIZES[size]
    picture = Image.new("L", size, 230)
    side = size[0] // (columns + 1)
    for row, column in np.ndindex(rows, columns):
        digit = Image.fromarray(images[int(random.integers(len(images)))].numpy()).resize((side, side))
        top = (row + 1) * size[1] // (rows + 1) - side // 2
        picture.paste(40, (side // 2 + column * side, top), digit)
    pixels = np.asarray(picture) + random.normal(0, noise, (size[1], size[0]))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def memory(name: str) -> float:
    """Return the memory that the process has (VmRSS), or the most since the peak was reset (VmHWM), in MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    options = make_parser(__doc__, pictures=(5, "of each kind")).parse_args()
    cv2.setNumThreads(1)
    random = np.random.default_rng(0)
    images, _ = load_test_digits()
    read(draw(images, (1000, 750), 0, random))  # loads the networks
    print_head("pixels", "digits", "noise", "CPU, s", "memory, MiB")
    for size, (rows, columns) in SIZES.items():
        for noise in 0, 4:
            pictures = [draw(images, size, noise, random) for _ in range(options.pictures)]
            seconds, peaks = [], []
            for picture in pictures:
                Path("/proc/self/clear_refs").write_text("5")  # resets the peak
                before, start = memory("VmRSS"), time.process_time()
                read(picture)
                seconds.append(time.process_time() - start)
                peaks.append(memory("VmHWM") - before)
            medians = f"{np.median(seconds):.3f}", f"{np.median(peaks):.0f}"
            print_row(f"{size[0]} x {size[1]}", f"{rows * columns}", f"{noise}", *medians)
