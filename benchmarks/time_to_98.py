"""Measure seconds to a network that is 98 % right: whole processes, from their start to their end. See docs/speed.md.

    python benchmarks/time_to_98.py    # every contestant that is installed, five times in turn, seeds 0 to 4

mnist_lit reads its images, and makes them upright, within training and test, the others before; those of JAX and
scikit-learn have been made upright for them. scikit-learn has neither SiLU nor the one-cycle.
"""

from statistics import mean, median

from console import make_parser, print_head, print_row
from contestants import PHASES
from throughput import FAST, MACHINE, Task, measure

TASKS = {
    "mnist_lit": Task("**`mnist_lit`** in Python, `configs/fast.yaml`", "mnist_lit", FAST),
    "pytorch": Task("plain PyTorch loop, the same recipe", "pytorch", FAST),
    "jax": Task("JAX, an epoch one compiled `lax.scan`, the same recipe", "jax", FAST),
    "sklearn": Task("scikit-learn's `MLPClassifier`", "sklearn", FAST),
}

if __name__ == "__main__":
    parser = make_parser(__doc__, repeats=(5, "processes of each, with the seeds 0, 1, ..."))
    results = measure(TASKS, parser.parse_args().repeats)
    print_head("seconds", "whole process", *PHASES, "accuracy, %", "least")
    for name, runs in sorted(results.items(), key=lambda item: median(run["whole"] for run in item[1])):
        seconds = [f"{median(run[column] for run in runs):.1f}" for column in ("whole", *PHASES)]
        accuracies = [100 * run["accuracy"] for run in runs]
        print_row(TASKS[name].label, *seconds, f"{mean(accuracies):.2f}", f"{min(accuracies):.2f}")
    print(f"\n{MACHINE}")
