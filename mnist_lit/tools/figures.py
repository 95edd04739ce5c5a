"""Pictures of a network: curves, distortions, first-layer weights, confusion matrix, mistakes, reliability."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix
from torchvision.transforms.v2.functional import to_image, to_pil_image
from torchvision.utils import make_grid

from mnist_lit.datamodule import MNISTDataModule, TensorBatches
from mnist_lit.network import MLP, Upright

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def signed_colours(values: Tensor) -> Tensor:
    """Return values as colours: red above 0, blue below, white at 0; the largest value has the full colour.

    Args:
        values: Float ``(..., H, W)``; each image is scaled by its own largest value.

    Returns:
        RGB, float ``(..., 3, H, W)`` in [0, 1].
    """
    values = values / values.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=1e-9)
    above, below = values.clamp(min=0), -values.clamp(max=0)
    return 1 - torch.stack((below, above + below, above), dim=-3)


def last_hidden(network: MLP, images: Tensor) -> Tensor:
    """Return the last hidden layer's output for ``images``, float ``(N, units)``; their pixels if there is no layer."""
    hidden: Tensor = network.layers[:-1](network.upright(images))
    return hidden


def draw_first_layer(network: MLP) -> Tensor:
    """Return each first-layer unit's weights as an image: red where ink excites the unit, blue where ink inhibits it.

    Returns:
        RGB, float ``(3, H, W)`` in [0, 1]: 16 units per row.
    """
    weights = next(network.parameters()).detach().float().cpu().view(-1, 28, 28)
    picture: Tensor = make_grid(signed_colours(weights), nrow=16, padding=1, pad_value=0.5)
    return picture


def beside_upright(network: torch.nn.Module, images: Tensor) -> Tensor:
    """Return images, and to the right of each what the layers of ``network`` see, if it makes images upright.

    Args:
        network: The network.
        images: Float ``(N, 1, 28, 28)`` with pixels in [0, 1].

    Returns:
        Float ``(N, 1, 28, 56)``, else the images.
    """
    if isinstance(network, MLP) and isinstance(network.upright, Upright):
        return torch.cat((images, network.upright(images)), dim=3)
    return images


def draw_mistakes(images: Tensor, probabilities: Tensor, labels: Tensor, count: int = 32) -> Tensor:
    """Return the network's most confident mistakes, each with its label, the guess and the guess's probability.

    Args:
        images: The mistaken images, float ``(N, 1, 28, W)`` with pixels in [0, 1].
        probabilities: Float ``(N, 10)``.
        labels: int64 ``(N,)``.
        count: Largest number of mistakes to draw.

    Returns:
        RGB, uint8 ``(3, H, W)``: eight mistakes per row, four if images are 56 pixels wide.
    """
    confidence, guesses = probabilities.max(dim=1)
    order = confidence.argsort(descending=True)[:count].tolist()
    columns, width, height, line = 8 * 28 // images.shape[3], 4 * images.shape[3] + 4, 4 * 28 + 4, 18
    picture = Image.new("RGB", (columns * width, max(1, -(-len(order) // columns)) * (height + line)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for place, mistake in enumerate(order):
        x, y = place % columns * width, place // columns * (height + line)
        digit = to_pil_image(images[mistake].cpu()).resize((width - 4, height - 4), Image.Resampling.NEAREST)
        picture.paste(digit, (x + 2, y + line))
        caption = f"{labels[mistake]} read as {guesses[mistake]}: {100 * float(confidence[mistake]):.0f} %"
        draw.text((x + 4, y + 2), caption, fill="black", font=font)
    pixels: Tensor = to_image(picture)
    return pixels


def draw_distortions(datamodule: MNISTDataModule, upright: Upright | None = None, rows: int = 7) -> Tensor:
    """Return a training digit of each kind, and below each digit several of its random distortions in training.

    Args:
        datamodule: Set up for ``fit``, with a distortion.
        upright: What makes the digits upright before they are distorted; by default they stay as they are.
        rows: Number of rows, including the undistorted digits.

    Returns:
        Float ``(3, H, W)`` in [0, 1], twice as large as the images.
    """
    images, labels = datamodule.train_data
    images, labels = next(iter(TensorBatches(images[:1000], labels[:1000], 1000, upright=upright)))
    images = images.view(-1, 1, 28, 28)
    digits = torch.cat([images[labels == digit][:1] for digit in range(10)])  # fewer if there are few images
    generator = torch.Generator().manual_seed(0)
    grid = torch.cat([digits, *(datamodule.augment(digits, generator) for _ in range(rows - 1))])
    picture: Tensor = make_grid(grid, nrow=len(digits), padding=1, pad_value=0.4)
    return picture.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)


def draw_confusion_matrix(logits: Tensor, labels: Tensor) -> "Figure":
    """Return torchmetrics' plot of how often each digit (row) was read as each digit (column).

    Args:
        logits: Float ``(N, 10)``.
        labels: int64 ``(N,)``.
    """
    confusion = MulticlassConfusionMatrix(num_classes=logits.shape[1])
    confusion.update(logits.cpu(), labels.cpu())
    figure = _new_figure(figsize=(7, 7), dpi=80)  # an automatic layout would take 60 of 240 ms
    figure.subplots_adjust(left=0.12, bottom=0.12, right=0.98, top=0.98)
    axes = figure.add_subplot()
    confusion.plot(ax=axes, cmap="Blues")
    axes.tick_params(labelrotation=0, labelsize=14)
    return figure


def draw_reliability(logits: Tensor, labels: Tensor) -> "Figure":
    """Return a reliability diagram (Guo et al. 2017): the share of right guesses in each range of probability.

    Args:
        logits: Float ``(N, 10)``.
        labels: int64 ``(N,)``.
    """
    probabilities, guesses = logits.softmax(dim=1).max(dim=1)
    bins = torch.bucketize(probabilities, torch.linspace(0.1, 0.9, 9))  # the calibration error's bins
    figure = _new_figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="perfectly calibrated")
    for each in bins.unique().tolist():
        right = (guesses == labels)[bins == each].float()
        axes.bar(each / 10 + 0.05, float(right.mean()), width=0.09, color="tab:blue")
        axes.text(each / 10 + 0.05, float(right.mean()), f"{len(right)}", ha="center", va="bottom")
    axes.set(xlabel="probability of the guess", ylabel="share of right guesses", xlim=(0, 1), ylim=(0, 1.08))
    figure.legend(loc="outside upper center", frameon=False)  # off the bars
    return figure


_CURVES = {
    "loss (cross-entropy)": {"train_loss": "training", "val_loss": "validation"},
    "accuracy": {"train_acc": "training", "val_acc": "validation"},
    "learning rate": {"lr": ""},
}


def draw_curves(run_dir: Path) -> "Figure":
    """Return the curves of a run, as TensorBoard shows them: loss, accuracy and learning rate.

    Args:
        run_dir: Folder of the run.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
    figure = _new_figure(figsize=(12, 3), layout="constrained")
    for axes, (title, tags) in zip(figure.subplots(1, len(_CURVES)), _CURVES.items(), strict=True):
        for tag, label in tags.items():
            # Without a schedule, the learning rate's curve is named after the optimiser, too: lr-SGD.
            tags_ = [each for each in events.Tags()["scalars"] if each == tag or (tag, each[:3]) == ("lr", "lr-")]
            points = [point for each in tags_ for point in events.Scalars(each)]
            points = sorted(points, key=lambda point: point.step)  # files are read in the order of the clock
            axes.plot([point.step for point in points], [point.value for point in points], label=label)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if len(tags) > 1:
            axes.legend()
    return figure


def _new_figure(**options: Any) -> "Figure":
    # Not a pyplot figure, which would stay in memory until it is closed, and which a notebook would show twice.
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:  # a notebook shows it
            file = BytesIO()
            self.savefig(file)
            return file.getvalue()

    return ShownFigure(**options)
