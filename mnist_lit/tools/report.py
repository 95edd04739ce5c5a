"""A report on a network, as one HTML file that contains its pictures."""

import html
import io
import shlex
from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix
from torchvision.transforms.v2.functional import to_pil_image

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import UserError
from mnist_lit.files import replacing
from mnist_lit.module import MNISTClassifier
from mnist_lit.tools import figures
from mnist_lit.tools.evaluation import Evaluation, changed_options, evaluate

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
h2 {{ margin-top: 2em }}
figure {{ margin: 0 0 1em }}
figcaption {{ font-size: .8em }}
table {{ font-size: .875em }}
img {{ max-width: 100% }}
.tiles {{ display: grid; gap: 0 1em; grid-template-columns: repeat(auto-fill, minmax(9em, 1fr)) }}
.tiles img {{ width: 100%; image-rendering: pixelated }}
.chart {{ max-width: 33em }}
.curve {{ display: inline-block; max-width: 19em }}
th, td {{ text-align: left; font-weight: normal; padding-right: 1em }}
code {{ overflow-wrap: anywhere }}
@media (prefers-color-scheme: dark) {{ .chart img, .curve img {{ filter: invert(1) hue-rotate(180deg) }} }}
@media print {{ figure, table {{ break-inside: avoid }} }}
</style>
<main>
<h1>{title}</h1>
{body}
</main>
<footer><p>Made by mnist_lit {version} with PyTorch {torch} on {today}.</p></footer>
</html>
"""


def report(
    model: MNISTClassifier,
    datamodule: MNISTDataModule,
    checkpoint: Path,
    epoch: int | None,
    output: Path = Path("report.html"),
) -> None:
    """Test the network, write its results and pictures to a file, and print the file's name.

    Args:
        checkpoint: The network's checkpoint. The folder of its run contains the curves.
        output: HTML file to write; an older file is replaced.

    Raises:
        UserError: If matplotlib is not installed, or the name of the file does not end in .html.
    """
    if output.suffix not in (".html", ".htm"):
        raise UserError(f"--output {output}: the name of the file must end in .html")
    if find_spec("matplotlib") is None:
        raise UserError("the report needs matplotlib, which is not installed: pip install -e '.[plots]'")
    evaluation = evaluate(model.network, datamodule)
    reached = f"{100 * evaluation.accuracy:.2f} %"
    run_dir = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else None
    page = _PAGE.format(
        title=f"{reached} of MNIST's test images classified correctly",
        body="\n".join([*_results(evaluation), *_training(model, datamodule, run_dir, epoch)]),
        version=version("mnist_lit"),
        torch=torch.__version__,
        today=date.today().isoformat(),
    )
    with replacing(output) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    print(f"Wrote {output}: {len(page) / 1000:,.0f} KB, test accuracy {reached}")


def _results(evaluation: Evaluation) -> Iterator[str]:
    network, images, labels, logits = evaluation
    probabilities, guesses = logits.softmax(dim=1).max(dim=1)
    is_right = guesses == labels
    mistakes = int((~is_right).sum())
    yield f"<p>95 % interval: {_interval(is_right)} %. Cross-entropy: {F.cross_entropy(logits, labels):.4f}.</p>"
    shown = probabilities.masked_fill(is_right, 0).topk(min(24, mistakes)).indices
    pictures = figures.beside_upright(network, images[shown])
    beside = ", and beside each what the first layer sees" if pictures.shape[3] > 28 else ""
    yield f'<h2>{mistakes:,} mistakes</h2><p>The most confident ones{beside}.</p><div class="tiles">'
    for each, picture in zip(shown, pictures, strict=True):
        caption = f"{labels[each]} read as {guesses[each]}: {100 * probabilities[each]:.1f} %"
        yield _figure(to_pil_image(picture), f"A handwritten {labels[each]}", caption)
    yield "</div><h2>Confusion matrix</h2>"
    confusion = multiclass_confusion_matrix(logits, labels, num_classes=10)
    counts, places = confusion.clone().fill_diagonal_(0).view(-1).topk(3)
    most = [f"{place // 10} read as {place % 10} ({count} times)" for count, place in zip(counts, places, strict=True)]
    yield _figure(figures.draw_confusion_matrix(confusion), f"Most often: {', '.join(most)}", kind="chart")
    error = 100 * multiclass_calibration_error(logits.softmax(dim=1), labels, num_classes=10, n_bins=10)
    yield f"<h2>Calibration</h2><p>The expected calibration error (Guo et al. 2017) is {error:.2f} %.</p>"
    bins = torch.bucketize(probabilities, torch.linspace(0.1, 0.9, 9))  # as in the calibration error
    rows = []
    for low in bins.unique().tolist():
        right = is_right[bins == low]
        share, name = f"{100 * right.double().mean():.2f}", f"{low / 10:.1f} to {low / 10 + 0.1:.1f}"
        rows.append((name, f"{len(right):,}", share, _interval(right)))
    yield _table(("Probability", "Guesses", "Correct, %", "95 % interval"), rows)


def _training(
    model: MNISTClassifier, datamodule: MNISTDataModule, run_dir: Path | None, epoch: int | None
) -> Iterator[str]:
    if curves := figures.read_curves(run_dir) if run_dir else {}:
        yield "<h2>Curves</h2>"
    for quantity, stages in curves.items():
        ends = [f"{stage} {values[0]:.3g} to {values[-1]:.3g}".strip() for stage, (_, values) in stages.items()]
        yield _figure(figures.draw_curves({quantity: stages}), f"{quantity}: {', '.join(ends)}", kind="curve")
    if datamodule.augment:
        datamodule.setup("fit")
        yield "<h2>Distorted training digits</h2><p>Below each digit: six of its random distortions.</p>"
        yield _figure(figures.draw_distortions(datamodule, model.upright), "The digits 0 to 9, each seven times")
    yield "<h2>First layer</h2><p>The weights of each unit: red where ink excites it, blue where ink inhibits it.</p>"
    yield _figure(figures.draw_first_layer(model.network), "Blobs and strokes in red and blue, an image for each unit")
    facts = f"{sum(each.numel() for each in model.parameters()):,} parameters"
    if run_dir and curves:
        files = [EventFileLoader(str(file)).Load() for file in run_dir.glob("events.out.tfevents.*")]
        times = [
            times for events in files if (times := [event.wall_time for event in events])
        ]  # of each fit, without the time between
        facts += f", checkpoint of epoch {epoch}, {sum(max(each) - min(each) for each in times):.0f} seconds in all"
    yield f"<h2>Recipe</h2><p>{facts}. The seed, and what differs from the defaults:</p>"
    options = {
        f"--{group}.{name}": value
        for group, part in (("model", model), ("data", datamodule))
        for name, value in changed_options(type(part), part.hparams).items()
    }
    command = ""
    if run_dir and (config_file := run_dir / "config.yaml").is_file():
        config = yaml.safe_load(config_file.read_text(encoding="utf-8"))
        options["--trainer.max_epochs"] = config["trainer"]["max_epochs"]
        if config["data"].get("seed") is None:  # it follows the other one
            options["--seed_everything"] = options.pop("--data.seed")
        command = f"python -m mnist_lit fit --config {shlex.quote(str(config_file))}"
    yield _table(("Option", "Value"), options.items())
    if command:
        yield f"<p>This repeats the run: <code>{html.escape(command)}</code></p>"


def _interval(is_right: Tensor) -> str:
    """Return the 95 % interval of a measured share (Wilson 1927)."""
    count, share, z = len(is_right), float(is_right.double().mean()), 1.96
    centre, half = share + z**2 / (2 * count), z * (share * (1 - share) / count + (z / (2 * count)) ** 2) ** 0.5
    low, high = (100 * abs(centre + side) / (1 + z**2 / count) for side in (-half, half))
    return f"{low:.2f} to {high:.2f}"


def _table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = ["".join(f'<th scope="col">{each}</th>' for each in header)]
    for name, *values in rows:
        lines.append(f'<th scope="row">{name}</th>' + "".join(f"<td>{html.escape(str(each))}</td>" for each in values))
    return f"<table><tr>{'</tr><tr>'.join(lines)}</tr></table>"


def _figure(picture: Image.Image, alt: str, caption: str = "", kind: str = "") -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    image = f'<img alt="{alt}" src="data:image/png;base64,{b64encode(file.getvalue()).decode()}">'
    return f'<figure class="{kind}">{image}<figcaption>{caption}</figcaption></figure>'
