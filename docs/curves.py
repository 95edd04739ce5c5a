"""Draw the curves of runs, as TensorBoard shows them: loss, accuracy and learning rate.

    python docs/curves.py lightning_logs/version_0 --output curves.png

Needs the extra ``dev``, for matplotlib.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CHARTS = {
    "loss (cross-entropy)": {"train_loss": "training", "val_loss": "validation"},
    "accuracy": {"train_acc": "training", "val_acc": "validation"},
    "learning rate": {"lr": ""},
}


def main() -> None:
    """Draw each run that the command line names, one row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--output", type=Path, default=Path("curves.png"), help="the picture to write")
    arguments = parser.parse_args()

    size = (4 * len(CHARTS), 3 * len(arguments.runs))
    figure, rows = plt.subplots(len(arguments.runs), len(CHARTS), figsize=size, squeeze=False, layout="constrained")
    for run, row in zip(arguments.runs, rows, strict=True):
        events = EventAccumulator(str(run)).Reload()
        for axes, (title, tags) in zip(row, CHARTS.items(), strict=True):
            for tag, label in tags.items():
                points = events.Scalars(tag) if tag in events.Tags()["scalars"] else []
                axes.plot([point.step for point in points], [point.value for point in points], label=label)
            axes.set(title=title, xlabel="step")
            axes.grid(alpha=0.3)
            if len(tags) > 1:
                axes.legend()
    figure.savefig(arguments.output, dpi=80)


if __name__ == "__main__":
    main()
