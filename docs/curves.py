"""Draw the curves of a run, as TensorBoard shows them: loss, accuracy and learning rate.

    python docs/curves.py lightning_logs/version_0 --output curves.png

Needs the extra ``plots``.
"""

import argparse
from pathlib import Path

from mnist_lit.figures import draw_curves


def main() -> None:
    """Draw the run that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--output", type=Path, default=Path("curves.png"), help="the picture to write")
    arguments = parser.parse_args()

    draw_curves(arguments.run).savefig(arguments.output, dpi=80)


if __name__ == "__main__":
    main()
