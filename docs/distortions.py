"""Draw a digit of each kind as it is, and below it as the network sees it in training: each time anew.

    python docs/distortions.py configs/best.yaml --output distortions.png

The digits are training images.
"""

import argparse
from pathlib import Path

import torch
import yaml
from torchvision.utils import make_grid, save_image

from mnist_lit import MNISTDataModule

ROWS = 7


def main() -> None:
    """Draw the distortions of the recipe that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="the recipe")
    parser.add_argument("--output", type=Path, default=Path("distortions.png"), help="the picture to write")
    arguments = parser.parse_args()

    datamodule = MNISTDataModule(**yaml.safe_load(arguments.config.read_text())["data"])
    if datamodule.distortion is None:
        parser.error(f"{arguments.config} distorts nothing: it sets no --data.augment_... option")
    datamodule.prepare_data()
    datamodule.setup("fit")
    images, labels = next(iter(datamodule.train_dataloader()))
    digits = torch.stack([images[labels == digit][0] for digit in range(10)])
    generator = torch.Generator().manual_seed(0)
    rows = [digits, *(datamodule.distortion(digits, generator) for _ in range(ROWS - 1))]
    picture = make_grid(torch.cat(rows), nrow=10, padding=1, pad_value=0.4)
    save_image(picture.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2), arguments.output)


if __name__ == "__main__":
    main()
