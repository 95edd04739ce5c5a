"""Train the network of the package, and write its ``pretrained.ckpt``.

    pip install -e '.[bench]' && python benchmarks/pretrained.py

The recipe is configs/best.yaml, with 3,000 drawn digits beside MNIST's 60,000 training images: printed forms, 1s with a
flag or a foot and 4s with a foot, which are rare in MNIST, and crossed 7s. Takes four minutes on one core.
"""

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch import seed_everything
from torch import Tensor

from console import DATA, ROOT, make_parser
from mnist_lit import MNISTClassifier, MNISTDataModule, make_trainer
from mnist_lit.checkpoints import PRETRAINED
from mnist_lit.files import replacing
from strokes import draw, forms_of


def draw_digits(count: int) -> tuple[Tensor, Tensor]:
    """Return drawn digits, uint8 ``(count, 28, 28)``, and labels: 35 % are 1s, 15 % each 4s and 7s, 5 % each other."""
    random = np.random.default_rng(0)
    # A font's 1 that is a bare line is in MNIST as it is.
    forms = {digit: [form for form in forms_of(digit) if digit != 1 or sum(map(len, form)) > 2] for digit in range(10)}
    labels = [(*range(10), *[1] * 6, 4, 4, 7, 7)[index % 20] for index in range(count)]
    images = [draw(forms[label][random.integers(len(forms[label]))], random) for label in labels]
    return torch.stack(images), torch.tensor(labels)


class MNISTWithDrawnDigits(MNISTDataModule):
    """MNIST, with the drawn digits among its training images."""

    def setup(self, stage: str) -> None:
        """Add the drawn digits."""
        super().setup(stage)
        if stage == "fit":
            images, labels = self.train_data
            drawn_images, drawn_labels = draw_digits(3000)
            self.train_data = torch.cat([images, drawn_images]), torch.cat([labels, drawn_labels])


if __name__ == "__main__":
    options = make_parser(__doc__, epochs=(200, "of training"), output=(PRETRAINED, "the file")).parse_args()
    config = yaml.safe_load((ROOT / "configs" / "best.yaml").read_text())
    seed_everything(0)
    torch.set_num_threads(1)
    datamodule = MNISTWithDrawnDigits(DATA, **config["data"])
    model = MNISTClassifier(**config["model"])
    trainer = make_trainer(max_epochs=options.epochs, default_root_dir=ROOT / "lightning_logs" / "pretrained")
    trainer.fit(model, datamodule)
    trainer.test(model, datamodule)
    checkpoint = {
        "pytorch-lightning_version": lightning.__version__,
        "hyper_parameters": dict(model.hparams),
        "datamodule_hyper_parameters": dict(datamodule.hparams),
        "state_dict": model.state_dict(),
    }
    with replacing(options.output) as unfinished:
        torch.save(checkpoint, unfinished)
    print(f"Wrote {options.output}")
