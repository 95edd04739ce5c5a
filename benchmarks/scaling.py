"""Measure how training scales over processes of this machine.

    python benchmarks/scaling.py

Each row is a run from the command line, without progress bar, curves, checkpoints and validation; the rows are measured
in turn, several times, and the median of the epochs but the first is taken. Efficiency is the speed of N processes over
N times that of one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BENCHMARKS = Path(__file__).parent
IMAGES = 60_000


def seconds(processes: int, batch_size: int, epochs: int) -> list[float]:
    """Return the seconds of each epoch but the first, of a run on ``processes`` processes of the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "seconds.json")
        command = [
            *(sys.executable, "-m", "mnist_lit", "fit", "--data.val_size=0", f"--data.batch_size={batch_size}"),
            *("--trainer.accelerator=cpu", f"--trainer.devices={processes}", f"--trainer.max_epochs={epochs}"),
            *(["--trainer.strategy=ddp"] if processes > 1 else []),
            *("--trainer.logger=false", "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"),
            *("--trainer.callbacks+=epoch_timer.EpochTimer", f"--trainer.callbacks.output={output}"),
        ]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent)])}
        subprocess.run(command, env=environment, check=True)
        measured: list[float] = json.loads(output.read_text())["epochs"]
        return measured[1:]


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
        steps = -(-IMAGES // batch_size) / epoch
        print(f"| {batch_size:,} | {processes} | {steps:,.0f} | {IMAGES / epoch:,.0f} | {efficiency:.2f} |")


if __name__ == "__main__":
    main()
