"""Measure a recipe's accuracy: train and test it once per seed, as a user would from the command line.

    python benchmarks/accuracy.py configs/article.yaml --seeds 0-4
    python benchmarks/accuracy.py --ablation --seeds 0-2

The last one goes from the default recipe to configs/best.yaml, one change a row, 40 epochs each, and prints validation
accuracies: the test images take no part. Two programs, with other seeds, may run at once.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from console import DATA, make_parser, print_head, print_row

DATA_DIR = f"--data.data_dir={DATA}"
COLUMNS = "validation accuracy, %", "test accuracy, %", "seconds"
ABLATION = {
    "the default recipe for 40 epochs, without upright digits": "--trainer.max_epochs=40 --model.upright=false",
    "+ upright digits": "--model.upright=true",
    "+ rotation ≤ 10°, shift ≤ 0.75 px": "--data.augment.rotation=10 --data.augment.shift=0.75",
    "+ scale and shear ≤ 5 %": "--data.augment.scale=0.05 --data.augment.shear=0.05",
    "+ elastic distortion, 0.8 px": "--data.augment.elastic=0.8",
    "+ weight decay 5e-5 in place of 2e-4": "--model.weight_decay=5e-5",
    "+ SiLU in place of ReLU": "--model.activation=silu",
    "+ highest learning rate 0.1 in place of 0.2": "--model.lr=0.1",
}


def measure(recipe: Sequence[str], seed: int) -> list[str]:
    """Train and test a seed of the recipe that these options of ``fit`` are, and return the cells of COLUMNS."""
    with tempfile.TemporaryDirectory() as folder:
        command, places = (sys.executable, "-m", "mnist_lit"), (f"--trainer.default_root_dir={folder}", DATA_DIR)
        before = os.times()
        output = subprocess.check_output([*command, "fit", *recipe, f"--seed_everything={seed}", *places], text=True)
        seconds = sum(os.times()[2:4]) - sum(before[2:4])  # for which it had a core: the machine may be busy
        output += subprocess.check_output([*command, "test", *places], text=True)
    # A recipe without validation has no validation accuracy.
    matches = [re.search(rf"{what}: ([\d.]+) %", output) for what in ("Best validation accuracy", "test images")]
    return [*(match[1] if match else "" for match in matches), f"{seconds:.1f}"]


def summary(values: Sequence[str]) -> str:
    """Return mean and standard deviation of numbers, nothing if one is missing."""
    numbers = [float(value) for value in values if value]
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return f"{statistics.mean(numbers):.2f} ± {deviation:.2f}" if numbers else ""


if __name__ == "__main__":
    parser = make_parser(__doc__, seeds=("0-4", "a seed, or the first and last of several"))
    parser.add_argument("config", nargs="?", help="the recipe; without one, the default recipe")
    parser.add_argument("--ablation", action="store_true", help="from the default recipe to the best in its place")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    recipe = ["--config", options.config] if options.config else []
    if options.ablation:
        print_head("recipe", COLUMNS[0], "each seed")
        for change, more in ABLATION.items():
            recipe += more.split()
            accuracies = [measure(recipe, seed)[0] for seed in seeds]
            print_row(change, summary(accuracies), " ".join(accuracies))
    else:
        print_head("seed", *COLUMNS)
        rows = []
        for seed in seeds:
            rows.append(measure(recipe, seed))
            print_row(str(seed), *rows[-1])
        print_row("mean ± s.d.", *map(summary, zip(*rows, strict=True)))
