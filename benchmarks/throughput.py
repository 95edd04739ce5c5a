"""Measure seconds an epoch: this package beside whatever else trains the same network.

    python benchmarks/throughput.py                        # every contestant, five times in turn
    python benchmarks/throughput.py --only fit pytorch     # these alone
    python benchmarks/throughput.py --sizes                # 6,000, 60,000 and 600,000 images
    python benchmarks/throughput.py --markdown table.md    # the table in a file, too

Every contestant trains 784-128-64-10 on batches of 100 MNIST images, on the CPU, in a process and on a thread of its
own (JAX has no such setting). The default recipe has ReLU, momentum, weight decay and the one-cycle, the article's
none of them. Seconds are those of 60,000 images; the first epoch of a process, with its one-time costs, is not counted.
Ratios are taken round by round, and their median is given. scikit-learn and JAX take part where they are installed:
``pip install -e '.[bench]'``.
"""

import statistics
from collections.abc import Iterator, Mapping

from contestants import ARTICLE, TRAIN_SIZE, Task, command_line, epoch_seconds, measure, publish

TASKS = {
    "article": Task("the article's loop: images opened one by one", "article", ARTICLE),
    "template": Task("the usual Lightning template: transforms, metrics and bar each step", "template", ARTICLE),
    "fit": Task("**`mnist_lit fit`**, everything on", "fit"),
    "floor": Task("Lightning's floor: the steps alone", "floor"),
    "pytorch": Task("plain PyTorch loop over tensors in memory", "pytorch"),
    "fit_article": Task("**`mnist_lit fit --config configs/article.yaml`**, everything on", "fit", ARTICLE),
    "floor_article": Task("Lightning's floor: the steps alone", "floor", ARTICLE),
    "pytorch_article": Task("plain PyTorch loop over tensors in memory", "pytorch", ARTICLE),
    "jax": Task("JAX, an epoch one compiled `lax.scan`", "jax", ARTICLE),
    "sklearn": Task("scikit-learn's `MLPClassifier`", "sklearn", ARTICLE),
    "products": Task("the matrix products alone", "products", ARTICLE),
}
SIZES = {f"{size:,}": Task(f"{size:,}", "mnist_lit", size=size) for size in (6_000, 60_000, 600_000)}


def throughput_table(tasks: Mapping[str, Task], repeats: int, epochs: int) -> Iterator[str]:
    """Measure the tasks and yield the lines of their table."""
    results = measure(tasks, repeats, epochs)
    seconds = {
        name: [epoch_seconds(result) * TRAIN_SIZE / result["images"] for result in runs]
        for name, runs in results.items()
    }
    medians = {name: statistics.median(values) for name, values in seconds.items()}

    def ratio(name: str, contestant: str) -> str:
        other = contestant + ("_article" if tasks[name].config else "")
        if other not in seconds:
            return ""
        return f"{statistics.median(a / b for a, b in zip(seconds[name], seconds[other], strict=True)):.2f}"

    yield "| | recipe | seconds for 60,000 images | least to most | images a second | ratio to `fit` | to PyTorch |"
    yield "|---" * 7 + "|"
    for name in sorted(tasks, key=lambda name: -medians[name]):
        cells = [
            tasks[name].label,
            "article's" if tasks[name].config else "default",
            f"{medians[name]:.2f}",
            f"{min(seconds[name]):.2f} to {max(seconds[name]):.2f}",
            f"{TRAIN_SIZE / medians[name]:,.0f}",
            ratio(name, "fit"),
            ratio(name, "pytorch"),
        ]
        yield f"| {' | '.join(cells)} |"
    if "fit" in results:
        validation = statistics.median(statistics.median(result["validation"][1:]) for result in results["fit"])
        yield ""
        yield f"The validation of `fit`, not counted above: {validation:.2f} seconds an epoch."


def sizes_table(repeats: int, epochs: int) -> Iterator[str]:
    """Measure the default recipe on more and fewer images and yield the lines of their table."""
    yield "| images | their bytes, MB | seconds an epoch | peak memory of the process, MB |"
    yield "|---|---|---|---|"
    for size, results in measure(SIZES, repeats, epochs).items():
        megabytes = results[0]["images"] * 784 / 1e6
        seconds = statistics.median(map(epoch_seconds, results))
        peak = statistics.median(result["peak"] for result in results) / 1e6
        yield f"| {size} | {megabytes:,.0f} | {seconds:.2f} | {peak:,.0f} |"


def main() -> None:
    """Measure and print the table."""
    parser = command_line(__doc__, TASKS)
    parser.add_argument("--sizes", action="store_true", help="measure how time and memory grow with the images")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each process, at least 2")
    arguments = parser.parse_args()
    if arguments.sizes:
        table = sizes_table(arguments.repeats, arguments.epochs)
    else:
        tasks = {name: TASKS[name] for name in arguments.only}
        table = throughput_table(tasks, arguments.repeats, arguments.epochs)
    publish(table, arguments.markdown)


if __name__ == "__main__":
    main()
