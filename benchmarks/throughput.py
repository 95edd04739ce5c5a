"""Measure seconds an epoch: this package beside whatever else trains the same network.

    python benchmarks/throughput.py                        # every contestant, five times in turn
    python benchmarks/throughput.py --only fit floor       # these alone
    python benchmarks/throughput.py --sizes                # 6,000, 60,000 and 600,000 images
    python benchmarks/throughput.py --markdown table.md    # the table in a file, too

Every contestant trains 784-128-64-10 on batches of 100 MNIST images, on the CPU, in a process of its own: with the
article's recipe, but for ``fit`` and ``floor``, which take the default one. Seconds are those of 60,000 images; the
first epoch of a process, with its one-time costs, is not counted. scikit-learn and JAX take part where they are
installed: ``pip install -e '.[bench]'``. Those in PyTorch take one thread, as mnist_lit's command line does: two gain
nothing here, and on a busy machine they wait for each other.
"""

import argparse
import json
import os
import platform
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from mnist_lit.datamodule import Batch

ROOT = Path(__file__).resolve().parent.parent
ARTICLE = str(ROOT / "configs" / "article.yaml")
DATA = str(ROOT / "data")
BATCH = 100
ENVIRONMENT = os.environ | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}

# Contestants import what they need themselves, so that the processes of JAX and scikit-learn carry no torch.


def timed(epoch: Callable[[], object], epochs: int) -> list[float]:
    """Return the seconds of each call."""
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - start)
    return seconds


def read_idx(prefix: str) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Return images, uint8 ``(N, 784)``, and labels of the ``train`` or ``t10k`` files."""
    import numpy as np

    images = np.fromfile(f"{DATA}/MNIST/raw/{prefix}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 784)
    labels = np.fromfile(f"{DATA}/MNIST/raw/{prefix}-labels-idx1-ubyte", np.uint8, offset=8)
    return images, labels.astype(np.int64)


def article(epochs: int) -> list[float]:
    """Train as the article does: images opened one by one, a plain loop."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    from mnist_lit import MLP

    network = MLP(activation="identity")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    loader = DataLoader(MNIST(DATA, transform=ToTensor()), batch_size=BATCH, shuffle=True)

    def epoch() -> None:
        total = 0.0
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()

    return timed(epoch, epochs)


def template(epochs: int, output: Path) -> None:
    """Train as templates do: images one by one through transforms, metrics and the progress bar at every step."""
    import torch
    from epoch_timer import EpochTimer
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import TQDMProgressBar
    from torch.utils.data import DataLoader
    from torchmetrics.classification import MulticlassAccuracy
    from torchvision.datasets import MNIST
    from torchvision.transforms import Compose, Normalize, ToTensor

    from mnist_lit import MLP

    class Template(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = MLP(activation="identity")
            self.accuracy = MulticlassAccuracy(num_classes=10)

        def training_step(self, batch: "Batch", batch_idx: int) -> "Tensor":
            images, labels = batch
            logits = self.network(images)
            loss = torch.nn.functional.cross_entropy(logits, labels)
            self.accuracy(logits, labels)
            self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
            self.log("train/acc", self.accuracy, on_step=True, on_epoch=True, prog_bar=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])
    loader = DataLoader(MNIST(DATA, transform=transform), batch_size=BATCH, shuffle=True)
    timer = EpochTimer(str(output))
    with tempfile.TemporaryDirectory() as root:
        Trainer(max_epochs=epochs, default_root_dir=root, callbacks=[timer, TQDMProgressBar()]).fit(Template(), loader)


class Cut(Sized):
    """Batches cut beforehand."""

    def __init__(self, batches: "list[Batch]") -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> "Iterator[Batch]":
        return iter(self.batches)


def floor(epochs: int, output: Path, **recipe: Any) -> None:
    """Take Lightning's steps and no more: no metrics, logger, bar, checkpoint or validation, batches cut beforehand."""
    import torch
    from epoch_timer import EpochTimer
    from lightning.pytorch import Trainer

    from mnist_lit import MNISTClassifier, MNISTDataModule

    class Floor(MNISTClassifier):
        on_train_start = on_train_epoch_start = on_train_epoch_end = lambda self: None

        def training_step(self, batch: "Batch", batch_idx: int) -> "Tensor":
            images, labels = batch
            return torch.nn.functional.cross_entropy(self.network(images), labels)

    data = MNISTDataModule(DATA, val_size=0 if recipe else 5000)
    data.setup("fit")
    batches = Cut(list(data.train_dataloader()))
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[EpochTimer(str(output))],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Floor(**recipe), batches)


def pytorch(epochs: int) -> list[float]:
    """Train in a plain PyTorch loop over tensors in memory."""
    import torch

    from mnist_lit import MLP

    images, labels = map(torch.from_numpy, read_idx("train"))
    network = MLP(activation="identity")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)

    def epoch() -> None:
        for indices in torch.split(torch.randperm(len(images)), BATCH):
            batch = images.index_select(0, indices).div(255)
            loss = torch.nn.functional.cross_entropy(network(batch), labels.index_select(0, indices))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return timed(epoch, epochs)


def matrix_products(epochs: int) -> list[float]:
    """Do the step's eight matrix products alone: three forward, and backward three for weights and two for inputs."""
    import torch

    sizes = (784, 128, 64, 10)
    inputs = [torch.rand(BATCH, size) for size in sizes]
    weights = [torch.rand(b, a) for a, b in pairwise(sizes)]

    def epoch() -> None:
        for _ in range(60_000 // BATCH):
            for layer, weight in enumerate(weights):
                torch.mm(inputs[layer], weight.t())
                torch.mm(inputs[layer + 1].t(), inputs[layer])
                if layer > 0:
                    torch.mm(inputs[layer + 1], weight)

    return timed(epoch, epochs)


def scikit_learn(epochs: int) -> list[float]:
    """Train scikit-learn's MLPClassifier with SGD."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    images, labels = read_idx("train")
    images = images / np.float32(255)
    classifier = MLPClassifier(
        (128, 64), "identity", solver="sgd", batch_size=BATCH, learning_rate_init=0.01, alpha=0, momentum=0
    )
    return timed(lambda: classifier.partial_fit(images, labels, classes=np.arange(10)), epochs)


def jax(epochs: int) -> list[float]:
    """Train with JAX: an epoch is one compiled ``lax.scan``."""
    import jax
    import jax_mlp
    import numpy as np
    from jax import numpy as jnp

    images, labels = map(jnp.asarray, read_idx("train"))
    images = images / 255
    random = np.random.default_rng(0)
    parameters = jax_mlp.init(random)

    def step(parameters: Any, indices: Any) -> Any:
        loss, gradients = jax.value_and_grad(jax_mlp.loss)(parameters, images[indices], labels[indices], relu=False)
        return jax.tree.map(lambda p, g: p - 0.01 * g, parameters, gradients), loss

    scan = jax.jit(lambda parameters, order: jax.lax.scan(step, parameters, order))

    def epoch() -> None:
        nonlocal parameters
        order = jnp.asarray(random.permutation(60_000).reshape(-1, BATCH))
        parameters, losses = scan(parameters, order)
        losses.block_until_ready()

    return timed(epoch, epochs)


def sized(epochs: int, output: Path, size: int) -> None:
    """Train the default recipe on ``size`` images, MNIST's first ones or MNIST repeated, and write down the memory."""
    import resource

    from epoch_timer import EpochTimer
    from lightning.pytorch import Trainer

    from mnist_lit import MNISTClassifier, MNISTDataModule

    class Resized(MNISTDataModule):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            images, labels = self._train
            repeats = -(-size // len(images))
            self._train = images.repeat(repeats, 1, 1)[:size], labels.repeat(repeats)[:size]

    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[EpochTimer(str(output))],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(MNISTClassifier(), Resized(DATA, val_size=0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    output.write_text(json.dumps(json.loads(output.read_text()) | {"peak": peak}))


def fit(epochs: int, output: Path, *options: str) -> None:
    """Train as a user does: the command line on a terminal, with progress bar, TensorBoard, checkpoints, validation."""
    with tempfile.TemporaryDirectory() as root:
        sys.argv = ["mnist_lit", "fit", *options, f"--trainer.max_epochs={epochs}", f"--data.data_dir={DATA}"]
        sys.argv += [f"--trainer.default_root_dir={root}", "--trainer.callbacks+=epoch_timer.EpochTimer"]
        sys.argv += [f"--trainer.callbacks.output={output}"]
        from mnist_lit.cli import main

        main()


ARTICLE_RECIPE = yaml.safe_load(Path(ARTICLE).read_text())["model"]

# What each contestant is called in the table, and what its process does, given the epochs and the file for the seconds.
CONTESTANTS: dict[str, tuple[str, Callable[[int, Path], list[float] | None]]] = {
    "article": ("the article's loop: images opened one by one", lambda epochs, _: article(epochs)),
    "template": ("the usual Lightning template: transforms, metrics and bar each step", template),
    "fit": ("**`mnist_lit fit`**, default recipe, everything on", fit),
    "floor": ("Lightning's floor for it: the steps alone, default recipe", floor),
    "fit_article": (
        "**`mnist_lit fit --config configs/article.yaml`**, everything on",
        lambda epochs, output: fit(epochs, output, "--config", ARTICLE),
    ),
    "floor_article": (
        "Lightning's floor for it, article's recipe",
        lambda epochs, output: floor(epochs, output, **ARTICLE_RECIPE),
    ),
    "pytorch": ("plain PyTorch loop over tensors in memory", lambda epochs, _: pytorch(epochs)),
    "jax": ("JAX, an epoch one compiled `lax.scan`", lambda epochs, _: jax(epochs)),
    "sklearn": ("scikit-learn's `MLPClassifier`", lambda epochs, _: scikit_learn(epochs)),
    "products": ("the matrix products alone", lambda epochs, _: matrix_products(epochs)),
}
OPTIONAL = {"jax": "jax", "sklearn": "scikit-learn"}  # contestant, which is the module too, and package
SIZES = {6_000: "6,000", 60_000: "60,000", 600_000: "600,000"}


def run(contestant: str, epochs: int) -> dict[str, Any]:
    """Run a contestant in a process of its own, on a terminal of its own, and return what it wrote down."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "seconds.json")
        terminal, theirs = pty.openpty()
        command = [
            sys.executable,
            __file__,
            "--contestant",
            contestant,
            "--epochs",
            str(epochs),
            "--output",
            str(output),
        ]
        with subprocess.Popen(command, env=ENVIRONMENT, stdout=theirs, stderr=subprocess.PIPE, text=True) as process:
            os.close(theirs)
            # A terminal that nobody reads would fill and stop the process.
            threading.Thread(target=lambda: all(iter(lambda: read(terminal), b"")), daemon=True).start()
            _, errors = process.communicate()
        os.close(terminal)
        if process.returncode != 0:
            sys.exit(f"{contestant} failed:\n{errors}")
        result: dict[str, Any] = json.loads(output.read_text())
        return result


def read(terminal: int) -> bytes:
    """Read what a process wrote to its terminal; nothing once it is gone."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def measure(contestants: list[str], repeats: int, epochs: int) -> dict[str, list[dict[str, Any]]]:
    """Run all contestants ``repeats`` times in turn."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for repeat in range(repeats):
        for name in contestants:
            print(f"\rround {repeat + 1} of {repeats}: {name:<16}", end="", file=sys.stderr, flush=True)
            results[name].append(run(name, epochs))
    print(file=sys.stderr)
    return results


def seconds_of(result: dict[str, Any], images: int) -> float:
    """Return the median seconds for 60,000 images, the first epoch left out."""
    epochs: list[float] = result["epochs"]
    return statistics.median(epochs[1:]) * 60_000 / images


def throughput_table(contestants: list[str], repeats: int, epochs: int) -> Iterator[str]:
    """Measure the contestants and yield the lines of their table."""
    results = measure(contestants, repeats, epochs)
    images = {name: 55_000 if name in ("fit", "floor") else 60_000 for name in contestants}
    seconds = {name: [seconds_of(result, images[name]) for result in results[name]] for name in contestants}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    yield "| | seconds for 60,000 images | least to most | images a second | ratio to `fit` of the same recipe |"
    yield "|---|---|---|---|---|"
    for name in sorted(contestants, key=lambda name: -medians[name]):
        fit = "fit" if name in ("fit", "floor") else "fit_article"
        ratio = f"{medians[name] / medians[fit]:.2f}" if fit in medians else ""
        spread = f"{min(seconds[name]):.2f} to {max(seconds[name]):.2f}"
        yield f"| {CONTESTANTS[name][0]} | {medians[name]:.2f} | {spread} | {60_000 / medians[name]:,.0f} | {ratio} |"
    for recipe in "", "_article":
        if {f"fit{recipe}", f"floor{recipe}"} <= medians.keys():
            pairs = zip(seconds[f"fit{recipe}"], seconds[f"floor{recipe}"], strict=True)
            ratios = sorted(fit / floor for fit, floor in pairs)
            yield ""
            yield (
                f"`fit{recipe}` / `floor{recipe}`: {medians[f'fit{recipe}'] / medians[f'floor{recipe}']:.2f} "
                f"(round by round {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
            )
    if "fit" in results:
        validation = statistics.median(statistics.median(result["validation"][1:]) for result in results["fit"])
        yield ""
        yield f"The validation of `fit`, not counted above: {validation:.2f} seconds an epoch."


def sizes_table(repeats: int, epochs: int) -> Iterator[str]:
    """Measure this package on more and fewer images and yield the lines of their table."""
    results = measure([f"size_{size}" for size in SIZES], repeats, epochs)
    yield "| images | their bytes, MB | seconds an epoch | peak memory of the process, MB |"
    yield "|---|---|---|---|"
    for size, label in SIZES.items():
        runs = results[f"size_{size}"]
        seconds = statistics.median(statistics.median(result["epochs"][1:]) for result in runs)
        peak = statistics.median(result["peak"] for result in runs) / 1e6
        yield f"| {label} | {size * 784 / 1e6:,.0f} | {seconds:.2f} | {peak:,.0f} |"


def present(contestants: Iterable[str]) -> list[str]:
    """Return the contestants but for those that are not installed."""
    return [name for name in contestants if name not in OPTIONAL or find_spec(name)]


def machine() -> str:
    """Return what the measurement ran on."""
    cpuinfo = Path("/proc/cpuinfo")  # of Linux
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    cpu = next((line for line in lines if "model name" in line), f": {platform.processor()}")
    installed = ["torch", "lightning", *(package for module, package in OPTIONAL.items() if find_spec(module))]
    packages = ", ".join(f"{name} {version(name)}" for name in installed)
    return f"{os.cpu_count()} cores, {cpu.split(': ')[1]}; Python {platform.python_version()}, {packages}."


def main() -> None:
    """Measure and print the table; or, with ``--contestant``, be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="NAME", help=" ".join(CONTESTANTS))
    parser.add_argument("--sizes", action="store_true", help="measure how time and memory grow with the images")
    parser.add_argument("--repeats", type=int, default=5, help="processes of each contestant")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each process, at least 2")
    parser.add_argument("--markdown", type=Path, help="file to write the table to")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    if arguments.contestant:
        warnings.simplefilter("ignore")
        if arguments.contestant not in ("jax", "sklearn"):
            import torch

            torch.set_num_threads(1)
        if arguments.contestant.startswith("size_"):
            sized(arguments.epochs, arguments.output, int(arguments.contestant.removeprefix("size_")))
            return
        seconds = CONTESTANTS[arguments.contestant][1](arguments.epochs, arguments.output)
        if seconds is not None:
            arguments.output.write_text(json.dumps({"epochs": seconds}))
        return

    from mnist_lit import MNISTDataModule

    MNISTDataModule(DATA).prepare_data()
    contestants = arguments.only or present(CONTESTANTS)
    if arguments.sizes:
        lines = list(sizes_table(arguments.repeats, arguments.epochs))
    else:
        lines = list(throughput_table(contestants, arguments.repeats, arguments.epochs))
    table = "\n".join([*lines, "", machine()]) + "\n"
    print(table, end="")
    if arguments.markdown:
        arguments.markdown.write_text(table)


if __name__ == "__main__":
    main()
