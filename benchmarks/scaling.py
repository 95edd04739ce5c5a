"""Measure how training scales over processes of this machine.

    python benchmarks/scaling.py

Each row is a run from the command line, without progress bar, curves, checkpoints and validation; the rows are measured
in turn, several times, and the median of the epochs but the first is taken. Efficiency is the speed of N processes over
N times that of one.
"""

import argparse
import os
import statistics

from contestants import TRAIN_SIZE, fit


def seconds(processes: int, batch_size: int, epochs: int) -> list[float]:
    """Return the seconds of each epoch but the first, of a run on ``processes`` processes of the CPU."""
    result = fit(
        epochs,
        *("--data.val_size=0", f"--data.batch_size={batch_size}"),
        *("--trainer.accelerator=cpu", f"--trainer.devices={processes}"),
        *(["--trainer.strategy=ddp"] if processes > 1 else []),
        *("--trainer.logger=false", "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"),
    )
    measured: list[float] = result["epochs"][1:]
    return measured


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[100, 10000])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()

    measured: dict[tuple[int, int], list[float]] = {}
    for _ in range(arguments.repeats):
        for batch_size in arguments.batch_sizes:
            for processes in arguments.processes:
                measured.setdefault((batch_size, processes), []).extend(
                    seconds(processes, batch_size, arguments.epochs)
                )
    print(
        f"{os.cpu_count()} cores\n| batch | processes | steps a second | images a second | efficiency |\n"
        + "|---" * 5
        + "|"
    )
    for (batch_size, processes), values in measured.items():
        epoch = statistics.median(values)
        alone = statistics.median(measured[batch_size, arguments.processes[0]])
        efficiency = alone * arguments.processes[0] / epoch / processes
        steps = -(-TRAIN_SIZE // batch_size) / epoch
        print(f"| {batch_size:,} | {processes} | {steps:,.0f} | {TRAIN_SIZE / epoch:,.0f} | {efficiency:.2f} |")


if __name__ == "__main__":
    main()
