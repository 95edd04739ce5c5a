"""Measure seconds an epoch: this package beside whatever else trains the same network. See docs/speed.md.

    python benchmarks/throughput.py            # every contestant that is installed, five times in turn
    python benchmarks/throughput.py --sizes    # 6,000, 60,000 and 600,000 images

The default recipe has ReLU, momentum, weight decay and the one-cycle, the article's none of them. Ratios are medians of
those of each round.
"""

import statistics

from console import parser, print_head, print_row
from timing import ARTICLE, MACHINE, TRAIN_SIZE, Task, epoch_seconds, measure

TASKS = {
    "article": Task("the article's loop: images opened one by one", "article", ARTICLE),
    "template": Task("the usual Lightning template: transforms, metrics and bar each step", "template", ARTICLE),
    "fit": Task("**`mnist_lit fit`**, everything on", "fit"),
    "floor": Task("Lightning's floor: the steps alone, one by one", "floor"),
    "pytorch": Task("plain PyTorch loop over tensors in memory", "pytorch"),
    "fit_article": Task("**`mnist_lit fit --config configs/article.yaml`**, everything on", "fit", ARTICLE),
    "floor_article": Task("Lightning's floor: the steps alone, one by one", "floor", ARTICLE),
    "pytorch_article": Task("plain PyTorch loop over tensors in memory", "pytorch", ARTICLE),
    "jax": Task("JAX, an epoch one compiled `lax.scan`", "jax", ARTICLE),
    "sklearn": Task("scikit-learn's `MLPClassifier`", "sklearn", ARTICLE),
    "products": Task("the matrix products alone", "products", ARTICLE),
}
SIZES = {f"{size:,}": Task(f"{size:,}", "mnist_lit", size=size) for size in (6_000, 60_000, 600_000)}


def print_contestants(repeats: int, epochs: int) -> None:
    """Measure the contestants and print their table."""
    results = measure(TASKS, repeats, epochs)
    # The default recipe holds 5,000 images out.
    part = {name: 1 if TASKS[name].config else 55 / 60 for name in results}
    seconds = {name: [epoch_seconds(run) / part[name] for run in runs] for name, runs in results.items()}

    def ratio(name: str, other: str) -> str:
        pairs = zip(seconds[name], seconds[other + "_article" * bool(TASKS[name].config)], strict=True)
        return f"{statistics.median(one / other for one, other in pairs):.2f}"

    columns = "recipe", "seconds for 60,000 images", "least to most", "images a second", "ratio to `fit`", "to PyTorch"
    print_head("", *columns)
    for name, values in sorted(seconds.items(), key=lambda item: -statistics.median(item[1])):
        median = statistics.median(values)
        print_row(
            *(TASKS[name].label, "article's" if TASKS[name].config else "default"),
            *(f"{median:.2f}", f"{min(values):.2f} to {max(values):.2f}", f"{TRAIN_SIZE / median:,.0f}"),
            *(ratio(name, "fit"), ratio(name, "pytorch")),
        )
    validation = statistics.median(statistics.median(run["validation"][1:]) for run in results["fit"])
    print(f"\nThe validation of `fit`, not counted above: {validation:.2f} seconds an epoch.")


def print_sizes(repeats: int, epochs: int) -> None:
    """Measure the default recipe on more and fewer images and print their table."""
    print_head("images", "their bytes, MB", "seconds an epoch", "peak memory of the process, MB")
    for size, runs in measure(SIZES, repeats, epochs).items():
        megabytes = (SIZES[size].size or 0) * 784 / 1e6
        seconds = statistics.median(map(epoch_seconds, runs))
        peak = statistics.median(run["peak"] for run in runs) / 1e6
        print_row(size, f"{megabytes:,.0f}", f"{seconds:.2f}", f"{peak:,.0f}")


def main() -> None:
    """Measure and print the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--sizes", action="store_true", help="measure how time and memory grow with the images")
    arguments.add_argument("--repeats", type=int, default=5, help="processes of each, with the seeds 0, 1, ...")
    arguments.add_argument("--epochs", type=int, default=3, help="epochs of each process, at least 2")
    options = arguments.parse_args()
    (print_sizes if options.sizes else print_contestants)(options.repeats, options.epochs)
    print(f"\n{MACHINE}")


if __name__ == "__main__":
    main()
