"""Measure seconds an epoch: this package beside whatever else trains the same network. See docs/speed.md.

    python benchmarks/throughput.py    # every contestant that is installed, five times in turn

The default recipe has ReLU, momentum, weight decay and the one-cycle, the article's none. Ratios are medians of rounds.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback

import contestants
from console import DATA, ROOT, make_parser, print_head, print_row
from mnist_lit import MNISTClassifier, MNISTDataModule, mnist
from mnist_lit.datamodule import TensorBatches
from mnist_lit.network import Upright

Result = dict[str, Any]
ARTICLE, FAST = ROOT / "configs" / "article.yaml", ROOT / "configs" / "fast.yaml"
TRAIN_SIZE = 60_000
MACHINE = f"{os.cpu_count()} cores; Python {platform.python_version()}, torch {version('torch')}"
ENVIRONMENT = os.environ | {
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    # As on mnist_lit's command line: two threads gain nothing here, and on a busy machine wait for each other.
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")]),
}


class Task(NamedTuple):
    """A row of a table."""

    label: str
    contestant: str  # one of contestants.py, or fit, the command
    config: Path | None = None  # without one, the default recipe
    options: tuple[str, ...] = ()  # more of fit


TASKS = {
    "article": Task("the article's loop: images opened one by one", "article", ARTICLE),
    "fit": Task("**`mnist_lit fit`**, everything on", "fit"),
    "pytorch": Task("plain PyTorch loop over tensors in memory", "pytorch"),
    "fit_article": Task("**`mnist_lit fit --config configs/article.yaml`**, everything on", "fit", ARTICLE),
    "pytorch_article": Task("plain PyTorch loop over tensors in memory", "pytorch", ARTICLE),
    "jax": Task("JAX, an epoch one compiled `lax.scan`", "jax", ARTICLE),
    "sklearn": Task("scikit-learn's `MLPClassifier`", "sklearn", ARTICLE),
}


class EpochTimer(LambdaCallback):
    """Writes to ``output`` the seconds of each epoch, up to the next one's start, and those of its validation."""

    def __init__(self, output: str) -> None:
        starts: list[float] = []
        validation: list[float] = []

        def write(trainer: Trainer, _: LightningModule) -> None:
            if trainer.is_global_zero:
                seconds = validation[-len(starts) :] or [0.0]  # before them there was a sanity check
                epochs = np.diff([*starts, time.perf_counter()]) - seconds
                Path(output).write_text(json.dumps({"epochs": epochs.tolist(), "validation": seconds}))

        super().__init__(
            on_train_epoch_start=lambda *_: starts.append(time.perf_counter()),
            on_validation_start=lambda *_: validation.append(-time.perf_counter()),
            on_validation_end=lambda *_: validation.append(validation.pop() + time.perf_counter()),
            on_train_end=write,
        )


def run_python(*arguments: str) -> Result:
    """Run Python in a folder and on a terminal of its own; return what it wrote to RESULT, and its seconds."""
    spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    command = [sys.executable, "-c", spawn, sys.executable, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.run(command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            sys.exit(f"{arguments} failed:\n{process.stdout.decode(errors='replace')}")
        return {"whole": seconds, **json.loads(Path(folder, contestants.RESULT).read_text())}


@cache
def upright_dir() -> Path:
    """Return a folder with MNIST's images made upright, for contestants without torch: they take no time for it."""
    source, raw = DATA / "MNIST" / "raw", DATA / "upright" / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for prefix in "train", "t10k":
        images = TensorBatches(*mnist.read(source, prefix), 1, upright=Upright()).images
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(bytes(16) + images.numpy().tobytes())
        shutil.copy(source / f"{prefix}-labels-idx1-ubyte", raw)
    return DATA / "upright"


def perform(task: Task, seed: int, epochs: int | None) -> Result:
    """Perform a task, by default for the epochs of its recipe."""
    config = yaml.safe_load(task.config.read_text()) if task.config else {}
    epochs = epochs or config["trainer"]["max_epochs"]
    if task.contestant == "fit":
        recipe = ("--config", str(task.config)) if task.config else ()
        run = (f"--seed_everything={seed}", f"--data.data_dir={DATA}", f"--trainer.max_epochs={epochs}")
        timer = ("--trainer.callbacks+=throughput.EpochTimer", f"--trainer.callbacks.output={contestants.RESULT}")
        return run_python("-m", "mnist_lit", "fit", *recipe, *task.options, *run, *timer)
    model, data = MNISTClassifier(**config.get("model", {})), MNISTDataModule(seed=seed, **config.get("data", {}))
    data_dir = upright_dir() if model.upright and task.contestant in ("jax", "sklearn") else DATA
    given = {
        "model": model.hparams,
        "data": {**data.hparams, "data_dir": str(data_dir)},
        "epochs": epochs,
        "seed": seed,
    }
    return run_python(contestants.__file__, task.contestant, json.dumps(given))


def measure(tasks: Mapping[Any, Task], repeats: int, epochs: int | None = None) -> dict[Any, list[Result]]:
    """Perform the tasks in turn, with the seeds 0, 1, ...; JAX and scikit-learn take part where they are installed."""
    MNISTDataModule(DATA).prepare_data()
    missing = [library for library in ("jax", "sklearn") if not find_spec(library)]
    results: dict[Any, list[Result]] = {name: [] for name, task in tasks.items() if task.contestant not in missing}
    for seed in range(repeats):
        for name in results:
            print(f"\rround {seed + 1} of {repeats}: {name!s:<16}", end="", file=sys.stderr, flush=True)
            results[name].append(perform(tasks[name], seed, epochs))
    print(file=sys.stderr)
    return results


def epoch_seconds(result: Result) -> float:
    """Return the median seconds of an epoch, without the first, which has one-time costs."""
    return float(median(result["epochs"][1:]))


if __name__ == "__main__":
    parser = make_parser(__doc__, repeats=(5, "processes of each"), epochs=(3, "epochs of each process, at least 2"))
    results = measure(TASKS, **vars(parser.parse_args()))
    part = {name: 1 if TASKS[name].config else 55 / 60 for name in results}  # the default recipe holds 5,000 images out
    seconds = {name: [epoch_seconds(run) / part[name] for run in runs] for name, runs in results.items()}
    columns = "recipe", "seconds for 60,000 images", "least to most", "images a second", "ratio to `fit`", "to PyTorch"
    print_head("", *columns)
    for name, values in sorted(seconds.items(), key=lambda item: -median(item[1])):
        recipe, suffix = ("article's", "_article") if TASKS[name].config else ("default", "")
        speeds = f"{min(values):.2f} to {max(values):.2f}", f"{TRAIN_SIZE / median(values):,.0f}"
        ratios = (f"{median(map(truediv, values, seconds[other + suffix])):.2f}" for other in ("fit", "pytorch"))
        print_row(TASKS[name].label, recipe, f"{median(values):.2f}", *speeds, *ratios)
    validation = median(median(run["validation"][1:]) for run in results["fit"])
    print(f"\nThe validation of `fit`, not counted above: {validation:.2f} seconds an epoch.\n\n{MACHINE}")
