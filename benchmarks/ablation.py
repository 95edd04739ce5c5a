"""Measure what each part of the best recipe gives: from the default recipe to configs/best.yaml, one change a row.

    python benchmarks/ablation.py --seeds 0-2

Every row has 40 epochs. The figures are validation accuracies: the test images take no part. They are kept as
accuracy.py keeps them, and a run whose figures are there is not made again.
"""

import argparse

from accuracy import measured, seed_range, summary

CHANGES = {
    "the default recipe for 40 epochs": "--trainer.max_epochs=40",
    "+ rotation ≤ 10°, shift ≤ 1.5 px": "--data.augment_rotation=10 --data.augment_shift=1.5",
    "+ scale and shear ≤ 10 %": "--data.augment_scale=0.1 --data.augment_shear=0.1",
    "+ elastic distortion, 0.8 px": "--data.augment_elastic=0.8",
    "+ weight decay 5e-5 in place of 5e-4": "--model.weight_decay=5e-5",
    "+ SiLU in place of ReLU": "--model.activation=silu",
    "+ highest learning rate 0.1 in place of 0.2": "--model.lr=0.1",
}


def main() -> None:
    """Measure each row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seed_range, default="0-2", help="a seed, or the first and last of several: 0-2")
    arguments = parser.parse_args()

    print("| recipe | validation accuracy, % | each seed |\n|---|---|---|")
    recipe: list[str] = []
    for number, (change, options) in enumerate(CHANGES.items()):
        recipe += options.split()
        accuracies = [row["val_acc"] for row in measured(f"ablation_{number}", recipe, arguments.seeds)]
        print(f"| {change} | {summary([float(accuracy) for accuracy in accuracies])} | {' '.join(accuracies)} |")


if __name__ == "__main__":
    main()
