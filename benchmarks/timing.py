"""Time the contestants, each in processes of its own: for the programs that print tables of their seconds."""

import json
import os
import platform
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import contestants
from console import DATA, ROOT
from mnist_lit import MNISTClassifier, MNISTDataModule

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
    contestant: str  # a function of contestants.py, or fit, the command
    config: Path | None = None  # without one, the default recipe
    size: int | None = None  # as for contestants.Run
    options: tuple[str, ...] = ()  # more of fit


def run_python(*arguments: str) -> Result:
    """Run Python in a folder and on a terminal of its own; return what it wrote to RESULT, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        terminal, theirs = pty.openpty()
        command, output = [sys.executable, *arguments], b""
        start = time.perf_counter()
        with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            with suppress(OSError):  # the process is gone
                while some := os.read(terminal, 65536):
                    output += some
        seconds = time.perf_counter() - start
        os.close(terminal)
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{output.decode(errors='replace')}")
        return {"whole": seconds, **json.loads(Path(folder, contestants.RESULT).read_text())}


def perform(task: Task, seed: int, epochs: int | None) -> Result:
    """Perform a task, by default for the epochs of its recipe."""
    config = yaml.safe_load(task.config.read_text()) if task.config else {}
    epochs = epochs or config["trainer"]["max_epochs"]
    if task.contestant == "fit":
        recipe = ("--config", str(task.config)) if task.config else ()
        run = (f"--seed_everything={seed}", f"--data.data_dir={DATA}", f"--trainer.max_epochs={epochs}")
        timer = ("--trainer.callbacks+=epoch_timer.EpochTimer", f"--trainer.callbacks.output={contestants.RESULT}")
        return run_python("-m", "mnist_lit", "fit", *recipe, *task.options, *run, *timer)
    model, data = (
        {name: parameter.default for name, parameter in signature(part).parameters.items()} | config.get(key, {})
        for key, part in (("model", MNISTClassifier), ("data", MNISTDataModule))
    )
    data |= {"data_dir": str(DATA)} | ({"val_size": 0} if task.size else {})
    given = {"model": model, "data": data, "epochs": epochs, "seed": seed, "size": task.size}
    return run_python(contestants.__file__, task.contestant, json.dumps(given))


def measure(tasks: Mapping[str, Task], repeats: int, epochs: int | None = None) -> dict[str, list[Result]]:
    """Perform the tasks in turn, with the seeds 0, 1, ...; JAX and scikit-learn take part where they are installed."""
    MNISTDataModule(DATA).prepare_data()
    missing = [library for library in ("jax", "sklearn") if not find_spec(library)]
    results: dict[str, list[Result]] = {name: [] for name, task in tasks.items() if task.contestant not in missing}
    for seed in range(repeats):
        for name in results:
            print(f"\rround {seed + 1} of {repeats}: {name:<16}", end="", file=sys.stderr, flush=True)
            results[name].append(perform(tasks[name], seed, epochs))
    print(file=sys.stderr)
    return results


def epoch_seconds(result: Result) -> float:
    """Return the median seconds of an epoch, without the first, which has one-time costs."""
    return float(statistics.median(result["epochs"][1:]))
