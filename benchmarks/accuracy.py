"""Measure a recipe's accuracy: train and test it once per seed, as a user would from the command line.

    python benchmarks/accuracy.py --seeds 0-4
    python benchmarks/accuracy.py configs/article.yaml --seeds 0-4
    python benchmarks/accuracy.py --ablation --seeds 0-2

The last one measures what each part of the best recipe gives: from the default recipe to configs/best.yaml, one change
a row, 40 epochs each. Its figures are validation accuracies: the test images take no part.

Each seed's figures are kept as it ends, in lightning_logs/accuracy_NAME.csv, and a seed that is there is not run again:
delete the file to measure anew. The runs are kept beside it. Two of these programs, with other seeds, may run at once.
"""

import argparse
import csv
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

LOGS = Path(__file__).parent.parent / "lightning_logs"
COLUMNS = ("seed", "val_acc", "test_acc", "fit_seconds")

ABLATION = {
    "the default recipe for 40 epochs": "--trainer.max_epochs=40",
    "+ rotation ≤ 10°, shift ≤ 1.5 px": "--data.augment_rotation=10 --data.augment_shift=1.5",
    "+ scale and shear ≤ 10 %": "--data.augment_scale=0.1 --data.augment_shear=0.1",
    "+ elastic distortion, 0.8 px": "--data.augment_elastic=0.8",
    "+ weight decay 5e-5 in place of 5e-4": "--model.weight_decay=5e-5",
    "+ SiLU in place of ReLU": "--model.activation=silu",
    "+ highest learning rate 0.1 in place of 0.2": "--model.lr=0.1",
}


def mnist_lit(*arguments: str) -> str:
    """Run ``python -m mnist_lit`` and return what it prints."""
    command = [sys.executable, "-m", "mnist_lit", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def percentage(pattern: str, output: str) -> str:
    """Return the percentage that follows ``pattern`` in ``output``, empty if it is not there."""
    match = re.search(rf"{pattern}: ([\d.]+) %", output)
    return match[1] if match else ""


def measure(recipe: Sequence[str], seed: int, folder: Path) -> dict[str, str]:
    """Train and test one seed of the recipe that these options of ``fit`` are, in ``folder``."""
    root = f"--trainer.default_root_dir={folder}"
    start = time.perf_counter()
    fit = mnist_lit("fit", *recipe, f"--seed_everything={seed}", root)
    seconds = time.perf_counter() - start
    test = mnist_lit("test", root)
    return {
        "seed": str(seed),
        "val_acc": percentage("Best validation accuracy", fit),
        "test_acc": percentage("test images", test),
        "fit_seconds": f"{seconds:.1f}",
    }


def measured(name: str, recipe: Sequence[str], seeds: Sequence[int]) -> Iterator[dict[str, str]]:
    """Yield the figures of each seed, measured now unless they are there from an earlier time."""
    table = LOGS / f"accuracy_{name}.csv"
    if not table.exists():
        table.write_text(",".join(COLUMNS) + "\n")
    with table.open() as file:
        rows = {int(row["seed"]): row for row in csv.DictReader(file)}
    for seed in seeds:
        if seed not in rows:
            rows[seed] = measure(recipe, seed, LOGS / f"accuracy_{name}" / f"seed_{seed}")
            with table.open("a") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(rows[seed])
        yield rows[seed]


def summary(values: list[float]) -> str:
    """Return mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


def seed_range(text: str) -> list[int]:
    """Return the seeds of ``0-4`` or ``7``."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def print_recipe(config: Path | None, seeds: Sequence[int]) -> None:
    """Measure a recipe and print its table."""
    name = "default" if config is None else config.stem
    recipe = [] if config is None else ["--config", str(config)]
    print("| seed | validation accuracy, % | test accuracy, % | seconds |\n|---|---|---|---|")
    rows = []
    for row in measured(name, recipe, seeds):
        rows.append(row)
        print("|", " | ".join(row[column] for column in COLUMNS), "|", flush=True)
    columns = [[float(row[name]) for row in rows if row[name]] for name in COLUMNS[1:]]
    print("| mean ± s.d. |", " | ".join(summary(column) if column else "" for column in columns), "|")


def print_ablation(seeds: Sequence[int]) -> None:
    """Measure each row of the ablation and print their table."""
    print("| recipe | validation accuracy, % | each seed |\n|---|---|---|")
    recipe: list[str] = []
    for number, (change, options) in enumerate(ABLATION.items()):
        recipe += options.split()
        accuracies = [row["val_acc"] for row in measured(f"ablation_{number}", recipe, seeds)]
        print(f"| {change} | {summary([float(accuracy) for accuracy in accuracies])} | {' '.join(accuracies)} |")


def main() -> None:
    """Measure the seeds that have no figures yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("config", nargs="?", type=Path, help="the recipe; without one, the default recipe")
    what.add_argument("--ablation", action="store_true", help="from the default recipe to the best, one change a row")
    parser.add_argument("--seeds", type=seed_range, default="0-4", help="a seed, or the first and last of several: 0-4")
    arguments = parser.parse_args()
    if arguments.ablation:
        print_ablation(arguments.seeds)
    else:
        print_recipe(arguments.config, arguments.seeds)


if __name__ == "__main__":
    main()
