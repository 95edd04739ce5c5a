"""Measure a recipe's accuracy: train and test it once per seed, as a user would from the command line.

    python benchmarks/accuracy.py --seeds 0-4
    python benchmarks/accuracy.py configs/article.yaml --seeds 0-4

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


def main() -> None:
    """Measure the seeds that have no figures yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, help="the recipe; without one, the default recipe")
    parser.add_argument("--seeds", type=seed_range, default="0-4", help="a seed, or the first and last of several: 0-4")
    arguments = parser.parse_args()

    name = "default" if arguments.config is None else arguments.config.stem
    recipe = [] if arguments.config is None else ["--config", str(arguments.config)]
    print("| seed | validation accuracy, % | test accuracy, % | seconds |\n|---|---|---|---|")
    rows = []
    for row in measured(name, recipe, arguments.seeds):
        rows.append(row)
        print("|", " | ".join(row[column] for column in COLUMNS), "|", flush=True)
    columns = [[float(row[name]) for row in rows if row[name]] for name in COLUMNS[1:]]
    print("| mean ± s.d. |", " | ".join(summary(column) if column else "" for column in columns), "|")


if __name__ == "__main__":
    main()
