"""Measure seconds to a network that is 98 % right: whole processes, from their start to their end.

    python benchmarks/time_to_98.py                        # every contestant, five times in turn, seeds 0 to 4
    python benchmarks/time_to_98.py --only mnist_lit jax   # these alone
    python benchmarks/time_to_98.py --markdown table.md    # the table in a file, too

Every contestant trains 784-128-64-10 by SGD on the 60,000 training images of MNIST and counts its hits on the 10,000
test images, on the CPU and on one thread (JAX has no such setting). PyTorch and JAX take the recipe of
configs/fast.yaml (JAX without the last, smaller batch of an epoch); scikit-learn, which has no SiLU and no one-cycle,
ReLU, a learning rate for each epoch, the best of five such lists on the validation images, and momentum that starts
anew with each.
mnist_lit reads its images within training and test, the others before. scikit-learn and JAX take part where they are
installed: ``pip install -e '.[bench]'``.
"""

import statistics
from collections.abc import Iterator, Mapping

from contestants import FAST, PHASES, Task, command_line, measure, publish

TASKS = {
    "mnist_lit": Task("**`mnist_lit`** in Python, `configs/fast.yaml`", "mnist_lit", FAST),
    "pytorch": Task("plain PyTorch loop, the same recipe", "pytorch", FAST),
    "jax": Task("JAX, an epoch one compiled `lax.scan`, the same recipe", "jax", FAST),
    "sklearn": Task("scikit-learn's `MLPClassifier`", "sklearn", FAST),
}


def time_table(tasks: Mapping[str, Task], repeats: int) -> Iterator[str]:
    """Measure the tasks and yield the lines of their table."""
    results = measure(tasks, repeats)
    medians = {
        name: [statistics.median(result[column] for result in runs) for column in ("whole", *PHASES)]
        for name, runs in results.items()
    }
    yield f"| seconds | whole process | {' | '.join(PHASES)} | accuracy, % | least |"
    yield "|---" * 8 + "|"
    for name in sorted(tasks, key=lambda name: medians[name]):
        accuracies = [100 * result["accuracy"] for result in results[name]]
        seconds = " | ".join(f"{value:.1f}" for value in medians[name])
        yield f"| {tasks[name].label} | {seconds} | {statistics.mean(accuracies):.2f} | {min(accuracies):.2f} |"


def main() -> None:
    """Measure and print the table."""
    arguments = command_line(__doc__, TASKS).parse_args()
    publish(time_table({name: TASKS[name] for name in arguments.only}, arguments.repeats), arguments.markdown)


if __name__ == "__main__":
    main()
