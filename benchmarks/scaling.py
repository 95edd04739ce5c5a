"""Measure how training scales over processes of this machine.

    python benchmarks/scaling.py

Each row is a run from the command line, without progress bar, curves, checkpoints and validation; the rows are measured
in turn, several times. Efficiency is the speed of N processes over N times that of the first number of processes.
"""

import math
from itertools import product
from statistics import median

from console import make_parser, print_head, print_row
from throughput import MACHINE, TRAIN_SIZE, Task, epoch_seconds, measure

BARE = (
    *("--data.val_size=0", "--trainer.accelerator=cpu", "--trainer.logger=false"),
    *("--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"),
)

if __name__ == "__main__":
    options = make_parser(
        __doc__,
        processes=([1, 2, 4], "numbers of processes"),
        batch_sizes=([100, 10_000], "images in a batch, of all processes together"),
        repeats=(2, "runs of each"),
        epochs=(3, "epochs of each run, at least 2"),
    ).parse_args()
    tasks = {}
    for batch_size, processes in product(options.batch_sizes, options.processes):
        more = f"--data.batch_size={batch_size}", f"--trainer.devices={processes}"
        tasks[batch_size, processes] = Task("", "fit", options=(*BARE, *more))
    results = measure(tasks, options.repeats, options.epochs)
    seconds = {row: median(map(epoch_seconds, runs)) for row, runs in results.items()}
    print_head("batch", "processes", "steps a second", "images a second", "efficiency")
    for (batch_size, processes), epoch in seconds.items():
        efficiency = seconds[batch_size, options.processes[0]] * options.processes[0] / epoch / processes
        steps = math.ceil(TRAIN_SIZE / batch_size) / epoch
        print_row(f"{batch_size:,}", str(processes), f"{steps:,.0f}", f"{TRAIN_SIZE / epoch:,.0f}", f"{efficiency:.2f}")
    print(f"\n{MACHINE}")
