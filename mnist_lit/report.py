"""A report on a network, as one HTML file that holds its pictures."""

import copy
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
from torchmetrics.functional.classification import multiclass_accuracy
from torchvision.transforms.v2.functional import to_pil_image

from mnist_lit.checkpoint import read_checkpoint
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import UserError
from mnist_lit.figures import (
    calibration_error,
    draw_confusion_matrix,
    draw_curves,
    draw_distortions,
    draw_first_layer,
    draw_mistakes,
    draw_reliability,
)
from mnist_lit.files import replacing
from mnist_lit.module import MNISTClassifier
from mnist_lit.network import MLP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; color: #222; max-width: 60em; margin: 2em auto; padding: 0 1em }}
img {{ max-width: 100% }}
img.pixels {{ image-rendering: pixelated }}
table {{ border-collapse: collapse }}
td, th {{ border: 1px solid #ccc; padding: .2em .6em; text-align: right }}
.figure {{ font-size: 2.5em; font-weight: bold }}
footer {{ margin-top: 3em; color: #777 }}
</style>
<h1>{title}</h1>
{sections}
<footer>Made by mnist_lit {version} with PyTorch {torch} on {today}{source}.</footer>
</html>
"""


def write_report(
    model: MNISTClassifier, datamodule: MNISTDataModule, output: Path, checkpoint: Path | None = None
) -> None:
    """Test the network and write what there is to see of it, and print where.

    Args:
        model: The network.
        datamodule: Gives the test images.
        output: The HTML file; an older one is replaced.
        checkpoint: The network's, which tells how its images were distorted, and lies in the folder of its run, which
            has the curves.

    Raises:
        UserError: If matplotlib is not installed, or the name of the file does not end in .html.
        OSError: If the file cannot be written.
    """
    if output.suffix not in (".html", ".htm"):
        raise UserError(f"--output {output}: the name of the file must end in .html")
    if find_spec("matplotlib") is None:
        raise UserError("the report needs matplotlib, which is not installed: pip install -e '.[plots]'")
    datamodule.prepare_data()
    datamodule.setup("test")
    images, labels = map(torch.cat, zip(*datamodule.test_dataloader(), strict=True))
    network = copy.deepcopy(model.network).cpu().float().eval()
    with torch.inference_mode():
        logits = network(images)
    wrong = logits.argmax(dim=1) != labels
    accuracy = 1 - float(wrong.double().mean())
    by_digit = multiclass_accuracy(logits, labels, num_classes=10, average="none")
    confusion = draw_confusion_matrix(logits, labels)
    assert confusion is not None

    content = read_checkpoint(checkpoint) if checkpoint else {}
    data_hparams = content.get("datamodule_hyper_parameters", {})
    recipe = {**model.hparams, **data_hparams}
    if "epoch" in content:  # that of the package has the weights and hyperparameters alone
        recipe["epoch of the checkpoint"] = int(content["epoch"]) + 1
    sections = [
        f'<p><span class="figure">{100 * accuracy:.2f} %</span> of the {len(labels):,} test images of MNIST are read '
        f"right; the cross-entropy is {float(F.cross_entropy(logits, labels)):.4f}.</p>",
        _section("The recipe", _table(recipe)),
    ]
    run_dir = checkpoint.resolve().parent.parent if checkpoint else None
    if run_dir and any(run_dir.glob("events.out.tfevents.*")):
        sections.append(_section("How it learned", _image(draw_curves(run_dir))))
    distorted = MNISTDataModule(datamodule.data_dir, **data_hparams)
    if distorted.distortion:
        distorted.setup("fit")
        picture = draw_distortions(distorted)
        assert picture is not None
        text = "Digits as they are, and below each as they are distorted in training, anew each time."
        sections.append(_section("What it learned from", _image(picture), text))
    if isinstance(network, MLP):
        text = "The weights of each unit of the first layer: red where it looks for ink, blue where for none."
        sections.append(_section("What it looks for", _image(draw_first_layer(network)), text))
    sections += [
        _section("What is read as what", _image(confusion)),
        _section(
            "The accuracy of each digit's images",
            _table({str(digit): f"{100 * float(acc):.2f} %" for digit, acc in enumerate(by_digit)}),
        ),
        _section(
            "Its most confident mistakes",
            _image(draw_mistakes(images[wrong], logits[wrong].softmax(dim=1), labels[wrong])),
            f"Of {int(wrong.sum())} in all.",
        ),
        _section(
            "Is it as sure as it is right?",
            _image(draw_reliability(logits, labels)),
            f"The expected calibration error is {100 * calibration_error(logits, labels):.2f} % (Guo et al. 2017): the "
            "distance of the probabilities from the part of the guesses that is right. Above each bar: their number.",
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
    print(f"Wrote {output}: {len(page) / 1000:,.0f} KB, test accuracy {100 * accuracy:.2f} %")


def _section(heading: str, content: str, text: str = "") -> str:
    return f"<h2>{heading}</h2>\n<p>{text}</p>\n{content}"


def _table(values: Mapping[str, Any]) -> str:
    rows = (
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in values.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _image(picture: "Tensor | Figure") -> str:
    file = io.BytesIO()
    if isinstance(picture, Tensor):
        kind = "pixels"
        to_pil_image(picture).save(file, "PNG")
    else:
        kind = "chart"
        picture.savefig(file)
    return f'<img class="{kind}" alt="" src="data:image/png;base64,{b64encode(file.getvalue()).decode()}">'
