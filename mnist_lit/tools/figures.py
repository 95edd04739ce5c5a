"""Pictures of a network: curves, distortions, first-layer weights, confusion matrix."""

from io import BytesIO
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from mnist_lit.datamodule import MNISTDataModule, TensorBatches
from mnist_lit.network import MLP, Upright

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curves = dict[str, dict[str, tuple[list[float], list[float]]]]
"""For each quantity, and each stage that has it, the epochs, from 1, and the values."""


def beside_upright(network: torch.nn.Module, images: Tensor) -> Tensor:
    """Return images ``(N, 1, 28, 28)``; with their upright form at the right, 56 wide, if ``network`` makes it."""
    if isinstance(network, MLP) and isinstance(network.upright, Upright):
        return torch.cat((images, network.upright(images)), dim=3)
    return images


def draw_first_layer(network: MLP) -> Image.Image:
    """Draw each first-layer unit's weights: red where ink excites the unit, blue where ink inhibits it; 16 per row."""
    weights = next(network.parameters()).detach().float().cpu().view(-1, 28, 28)
    weights = weights / weights.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-9)  # each unit has its own scale
    above, below = weights.clamp(min=0), -weights.clamp(max=0)
    colours = 1 - torch.stack((below, above + below, above), dim=1)  # white at 0
    return _enlarged(make_grid(colours, nrow=16, padding=1, pad_value=0.5), 2)


def draw_distortions(datamodule: MNISTDataModule, upright: Upright | None = None) -> Image.Image:
    """Draw a training digit of each kind, and below each digit six of its random distortions in training.

    Args:
        datamodule: Set up for ``fit``, with a distortion.
        upright: What makes the digits upright before they are distorted; by default they stay as they are.
    """
    images, labels = datamodule.train_data
    images, labels = next(iter(TensorBatches(images[:1000], labels[:1000], 1000, upright=upright)))
    images = images.view(-1, 1, 28, 28)
    digits = torch.cat([images[labels == digit][:1] for digit in range(10)])  # fewer if there are few images
    generator = torch.Generator().manual_seed(0)
    grid = torch.cat([digits, *(datamodule.augment(digits, generator) for _ in range(6))])
    return _enlarged(make_grid(grid, nrow=len(digits), padding=1, pad_value=0.4), 2)


def draw_confusion_matrix(confusion: Tensor) -> Image.Image:
    """Draw how often each digit (row) was read as each digit (column), from int64 ``(classes, classes)``.

    The colours show the mistakes, on their own scale; at the right is the accuracy on each digit's images.
    """
    from matplotlib.figure import Figure  # not pyplot's, which would stay in memory until it is closed

    figure = Figure(figsize=(5.6, 5), dpi=160)
    axes = figure.add_axes((0.1, 0.1, 0.76, 0.88))  # an automatic layout would take 60 ms
    mistakes = confusion.clone().fill_diagonal_(0).cpu().numpy()
    axes.imshow(mistakes, cmap="Reds", vmax=2 * max(1, mistakes.max()))  # light enough for black numbers
    for row, column in confusion.nonzero().tolist():
        axes.text(column, row, str(int(confusion[row, column])), ha="center", va="center")
    digits, accuracy = range(len(confusion)), 100 * confusion.diag() / confusion.sum(dim=1)
    axes.set(xticks=digits, yticks=digits, xlabel="read as", ylabel="digit")
    right = axes.secondary_yaxis("right")
    right.set_yticks(digits, ["" if isnan(each) else f"{each:.1f} %" for each in accuracy.tolist()])
    return _drawn(figure)


_QUANTITIES = {
    "loss (cross-entropy)": {"training": "train_loss", "validation": "val_loss"},
    "accuracy": {"training": "train_acc", "validation": "val_acc"},
    "learning rate": {"": "lr"},
}


def read_curves(run_dir: Path) -> Curves:
    """Return the curves of a run: loss, accuracy and learning rate, as far as it logged them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
    tags = events.Tags()["scalars"]
    # Lightning logs the epoch, from 0, with each metric; a metric at an epoch's end is at its last step, from 0.
    ends = [(point.step + 1) / (point.value + 1) for point in events.Scalars("epoch")] if "epoch" in tags else [1]
    curves: Curves = {}
    for quantity, stages in _QUANTITIES.items():
        for stage, tag in stages.items():
            # Without a schedule, the learning rate's curve is named after the optimiser, too: lr-SGD.
            found = [each for each in tags if each == tag or (tag == "lr" and each.startswith("lr-"))]
            points = {point.step: point.value for each in found for point in events.Scalars(each)}
            if points:
                steps = sorted(points)  # files are read in the order of the clock
                epochs = [(step + 1) / max(ends) for step in steps]
                curves.setdefault(quantity, {})[stage] = epochs, [points[step] for step in steps]
    return curves


def draw_curves(curves: Curves) -> Image.Image:
    """Draw curves side by side, one chart for each quantity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(curves), 3), dpi=160, layout="constrained")
    for axes, (quantity, stages) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for stage, (epochs, values) in stages.items():
            axes.plot(epochs, values, "." if len(epochs) == 1 else "-", label=stage)
        axes.set(title=quantity, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if all(stages):
            axes.legend()
    return _drawn(figure)


def _enlarged(pixels: Tensor, factor: int) -> Image.Image:
    picture: Image.Image = to_pil_image(pixels)
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def _drawn(figure: "Figure") -> Image.Image:
    file = BytesIO()
    figure.savefig(file)
    return Image.open(file).convert("RGB")
