"""Draw a digit of each kind as it is, and below it as the network sees it in training: each time anew.

    python docs/distortions.py configs/best.yaml --output distortions.png

The digits are training images.
"""

import argparse
from pathlib import Path

import yaml
from torchvision.utils import save_image

from mnist_lit import MNISTDataModule
from mnist_lit.figures import draw_distortions


def main() -> None:
    """Draw the distortions of the recipe that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="the recipe")
    parser.add_argument("--output", type=Path, default=Path("distortions.png"), help="the picture to write")
    arguments = parser.parse_args()

    datamodule = MNISTDataModule(**yaml.safe_load(arguments.config.read_text())["data"])
    datamodule.prepare_data()
    datamodule.setup("fit")
    picture = draw_distortions(datamodule)
    if picture is None:
        parser.error(f"{arguments.config} distorts nothing: it sets no --data.augment_... option")
    save_image(picture, arguments.output)


if __name__ == "__main__":
    main()
