"""A report on a network, as one HTML file that contains its pictures."""

import html
import io
from base64 import b64encode
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error
from torchvision.transforms.v2.functional import to_pil_image

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import UserError
from mnist_lit.files import replacing
from mnist_lit.module import MNISTClassifier
from mnist_lit.network import MLP
from mnist_lit.tools.command import flatten
from mnist_lit.tools.evaluation import evaluate
from mnist_lit.tools.figures import (
    beside_upright,
    draw_confusion_matrix,
    draw_curves,
    draw_distortions,
    draw_first_layer,
    draw_mistakes,
    draw_reliability,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; background: Canvas; color: CanvasText }}
body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
img {{ max-width: 100% }}
img.pixels {{ image-rendering: pixelated }}
table {{ border-collapse: collapse }}
td, th {{ border: 1px solid #888; padding: .2em .6em; text-align: right }}
.figure {{ font-size: 2.5em; font-weight: bold }}
footer {{ margin-top: 3em }}
@media (prefers-color-scheme: dark) {{ img.chart {{ filter: invert(1) hue-rotate(180deg) }} }}
@media print {{ /* on two pages of A4 or Letter */
    body {{ font-size: 11px; line-height: 1.3; margin: 0; columns: 2 }}
    section {{ break-inside: avoid }}
    h2 {{ margin: .5em 0 }}
    p {{ margin: .3em 0 }}
    td, th {{ padding: 0 .6em }}
    section:has([alt=Curves]) {{ column-span: all }}
    img {{ max-height: 30vh }}
}}
</style>
<main>
<h1>{title}</h1>
{sections}
</main>
<footer>Made by mnist_lit {version} with PyTorch {torch} on {today}{source}.</footer>
</html>
"""


def report(
    model: MNISTClassifier,
    datamodule: MNISTDataModule,
    output: Path = Path("report.html"),
    checkpoint: Path | None = None,
    epoch: int | None = None,
) -> None:
    """Test the network, write its results and pictures to a file, and print the file's name.

    Args:
        model: The network.
        datamodule: Provides the test images and the distortion of the training images.
        output: HTML file to write; an older file is replaced.
        checkpoint: Path of the network's checkpoint. The folder of its run contains the curves.
        epoch: Epoch of the checkpoint, counted from 1.

    Raises:
        UserError: If matplotlib is not installed, or the name of the file does not end in .html.
        OSError: If the file cannot be written.
    """
    if output.suffix not in (".html", ".htm"):
        raise UserError(f"--output {output}: the name of the file must end in .html")
    if find_spec("matplotlib") is None:
        raise UserError("the report needs matplotlib, which is not installed: pip install -e '.[plots]'")
    network, images, labels, logits = evaluation = evaluate(model.network, datamodule)
    wrong = evaluation.is_wrong
    recipe = flatten({**model.hparams, **datamodule.hparams}) | ({"epoch of the checkpoint": epoch} if epoch else {})
    sections = [
        f'<p><span class="figure">{100 * evaluation.accuracy:.2f} %</span> of the {len(labels):,} test images of MNIST '
        f"are read right; the cross-entropy is {float(F.cross_entropy(logits, labels)):.4f}.</p>",
        _section("The recipe", _table(recipe)),
    ]
    run_dir = checkpoint.resolve().parent.parent if checkpoint else None
    if run_dir and any(run_dir.glob("events.out.tfevents.*")):
        sections.append(_section("Curves", draw_curves(run_dir)))
    if datamodule.augment:
        datamodule.setup("fit")
        text = "Training digits, and below each digit six of its random distortions."
        sections.append(_section("Distorted training digits", draw_distortions(datamodule, model.upright), text))
    if isinstance(network, MLP):
        text = "The weights of each unit: red where ink excites the unit, blue where ink inhibits it."
        sections.append(_section("The first layer", draw_first_layer(network), text))
    by_digit = multiclass_accuracy(logits, labels, num_classes=10, average="none")
    calibration_error = multiclass_calibration_error(logits.softmax(dim=1), labels, num_classes=10, n_bins=10)
    sections += [
        _section("Confusion matrix", draw_confusion_matrix(logits, labels)),
        _section(
            "Accuracy on each digit's images",
            _table({str(digit): f"{100 * float(acc):.2f} %" for digit, acc in enumerate(by_digit)}),
        ),
        _section(
            "The most confident mistakes",
            draw_mistakes(beside_upright(network, images[wrong]), logits[wrong].softmax(dim=1), labels[wrong]),
            f"There are {int(wrong.sum())} mistakes in all. Beside an image: what the first layer sees.",
        ),
        _section(
            "Calibration",
            draw_reliability(logits, labels),
            f"The expected calibration error is {100 * float(calibration_error):.2f} % (Guo et al. 2017): the average "
            "gap between a guess's probability and the share of right guesses. Above each bar: the number of guesses.",
        ),
    ]
    page = _PAGE.format(
        title="A network that reads handwritten digits",
        sections="\n".join(sections),
        version=version("mnist_lit"),
        torch=torch.__version__,
        today=date.today().isoformat(),
        source=f" from {html.escape('/'.join(checkpoint.resolve().parts[-3:]))}" if checkpoint else "",
    )
    with replacing(output) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    print(f"Wrote {output}: {len(page) / 1000:,.0f} KB, test accuracy {100 * evaluation.accuracy:.2f} %")


def _section(heading: str, content: "str | Tensor | Figure", text: str = "") -> str:
    shown = content if isinstance(content, str) else _image(content, heading)
    return f"<section><h2>{heading}</h2>\n<p>{text}</p>\n{shown}</section>"


def _table(values: Mapping[str, Any]) -> str:
    rows = (
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in values.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _image(picture: "Tensor | Figure", name: str) -> str:
    file = io.BytesIO()
    if isinstance(picture, Tensor):
        kind = "pixels"
        to_pil_image(picture).save(file, "PNG")
    else:
        kind = "chart"
        picture.savefig(file)
    url = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    return f'<img class="{kind}" alt="{html.escape(name)}" src="{url}">'
