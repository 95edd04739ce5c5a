"""Measure a recipe's accuracy: train and test it once per seed, as a user would from the command line.

    python benchmarks/accuracy.py configs/article.yaml --seeds 0-4
    python benchmarks/accuracy.py --ablation --seeds 0-2

The last one goes from the default recipe to configs/best.yaml, one change a row, 40 epochs each, and prints validation
accuracies: the test images take no part. Runs and figures are in lightning_logs/accuracy_NAME/seed_N. A seed that has
figures is not run again: delete its folder to measure it again. Two programs, with other seeds, may run at once.
"""

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from console import ROOT, make_parser, print_head, print_row

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


def measure(name: str, recipe: Sequence[str], seed: int) -> dict[str, str]:
    """Train and test a seed of the recipe that these options of ``fit`` are, unless its figures are there."""
    folder = ROOT / "lightning_logs" / f"accuracy_{name}" / f"seed_{seed}"
    file = folder / "figures.json"
    if not file.exists():
        command, root = (sys.executable, "-m", "mnist_lit"), f"--trainer.default_root_dir={folder}"
        start = time.perf_counter()
        output = subprocess.check_output([*command, "fit", *recipe, f"--seed_everything={seed}", root], text=True)
        seconds = time.perf_counter() - start
        output += subprocess.check_output([*command, "test", root], text=True)
        # A recipe without validation has no validation accuracy.
        matches = [re.search(rf"{what}: ([\d.]+) %", output) for what in ("Best validation accuracy", "test images")]
        figures = [*(match[1] if match else "" for match in matches), f"{seconds:.1f}"]
        file.write_text(json.dumps(dict(zip(COLUMNS, figures, strict=True))))
    return dict(json.loads(file.read_text()))


def summary(values: Sequence[str]) -> str:
    """Return mean and standard deviation of numbers, nothing if one is missing."""
    numbers = [float(value) for value in values if value]
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return f"{statistics.mean(numbers):.2f} ± {deviation:.2f}" if numbers else ""


if __name__ == "__main__":
    parser = make_parser(__doc__, seeds=("0-4", "a seed, or the first and last of several"))
    parser.add_argument("config", nargs="?", type=Path, help="the recipe; without one, the default recipe")
    parser.add_argument("--ablation", action="store_true", help="from the default recipe to the best in its place")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    recipe: list[str] = []
    if options.ablation:
        print_head("recipe", COLUMNS[0], "each seed")
        for number, (change, more) in enumerate(ABLATION.items()):
            recipe += more.split()
            accuracies = [measure(f"ablation_{number}", recipe, seed)[COLUMNS[0]] for seed in seeds]
            print_row(change, summary(accuracies), " ".join(accuracies))
    else:
        name = options.config.stem if options.config else "default"
        recipe += ["--config", str(options.config)] if options.config else []
        print_head("seed", *COLUMNS)
        rows = []
        for seed in seeds:
            rows.append(measure(name, recipe, seed).values())
            print_row(str(seed), *rows[-1])
        print_row("mean ± s.d.", *map(summary, zip(*rows, strict=True)))
