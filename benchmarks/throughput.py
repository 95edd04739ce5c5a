"""Measure seconds an epoch: this package beside plain PyTorch and Lightning's own loop, and over several processes.

    python benchmarks/throughput.py                        # every contestant, five times in turn; see docs/speed.md
    python benchmarks/throughput.py --processes 1 2 4      # the default recipe on so many; see docs/runs.md

Each trains on all 60,000 images, in a process and on a terminal of its own. Ratios are medians of rounds.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from operator import truediv
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor
from typing_extensions import override

from console import DATA, ROOT, make_parser, print_head, print_row
from mnist_lit import MNISTClassifier, MNISTDataModule, mnist
from mnist_lit.datamodule import Batch, TensorBatches

TRAIN_SIZE = 60_000
SPAWN = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"  # on a terminal
ENVIRONMENT = os.environ | {
    "CUDA_VISIBLE_DEVICES": "",
    # As on mnist_lit's command line: two threads gain nothing here, and on a busy machine wait for each other.
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")]),
}


class Task(NamedTuple):
    """A row of the table."""

    label: str
    recipe: str
    config: str = ""  # without one, the default recipe
    loop: str = ""  # article or tensors, for train; without one, the command fit
    options: tuple[str, ...] = ()  # more of fit


ONE_STEP = "--trainer.callbacks+=mnist_lit.StepsPerExecution", "--trainer.callbacks.steps=1"
LOOP = "plain PyTorch loop over tensors in memory"
ARTICLE = "article's", str(ROOT / "configs" / "article.yaml")
CONTESTANTS = [  # ratios are to the first one of a recipe
    Task("**`mnist_lit fit`**, everything on", "default"),
    Task("the same with Lightning's own loop: `StepsPerExecution(1)`", "default", options=ONE_STEP),
    Task(LOOP, "default", loop="tensors"),
    Task("**`mnist_lit fit --config configs/article.yaml`**, everything on", *ARTICLE),
    Task("the article's loop: images opened one by one", *ARTICLE, loop="article"),
    Task(LOOP, *ARTICLE, loop="tensors"),
]
BARE = (
    *("--trainer.accelerator=cpu", "--trainer.logger=false"),
    *("--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"),
)


def share(processes: int, batch_size: int) -> Task:
    """Return the default recipe on so many processes, without progress bar, curves and checkpoints."""
    options = *BARE, f"--trainer.devices={processes}", f"--data.batch_size={batch_size}"
    return Task(f"processes: {processes}", f"batches of {batch_size:,}", options=options)


class EpochTimer(Callback):
    """Writes to ``output`` the seconds from the start of each epoch to that of the next one."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.starts: list[float] = []

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.starts.append(time.perf_counter())

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds = np.diff([*self.starts, time.perf_counter()])
        if trainer.is_global_zero:
            Path(self.output).write_text(json.dumps(seconds.tolist()))


def gather(images: Tensor, labels: Tensor, batch_size: int) -> Iterator[Batch]:
    """Yield an epoch of batches of tensors in memory."""
    for indices in torch.randperm(len(labels)).split(batch_size):
        yield images.index_select(0, indices).div(255), labels.index_select(0, indices)


def train(loop: str, config: str, epochs: int, seed: int, output: str) -> None:
    """Train in a plain PyTorch loop, the article's or one over tensors in memory; write the seconds of each epoch."""
    recipe = yaml.safe_load(Path(config).read_text()) if config else {}
    torch.manual_seed(seed)
    model = MNISTClassifier(**recipe.get("model", {}))
    data = MNISTDataModule(DATA, **recipe.get("data", {}) | {"val_size": 0})
    data.setup("fit")
    opened = DataLoader(MNIST(DATA, transform=ToTensor()), data.batch_size, shuffle=True)
    # Made upright beforehand, as in this package.
    kept = TensorBatches(*data.train_data, data.batch_size, upright=model.upright).images, data.train_data[1]
    options = {name: model.hparams[name] for name in ("lr", "momentum", "nesterov", "weight_decay")}
    optimizer, scheduler = SGD(model.parameters(), **options, fused=loop != "article"), None
    if model.hparams["schedule"] == "one_cycle":
        scheduler = OneCycleLR(optimizer, options["lr"], epochs * len(opened), cycle_momentum=False)
    times = [time.perf_counter()]
    for _ in range(epochs):
        for images, labels in opened if loop == "article" else gather(*kept, data.batch_size):
            loss = F.cross_entropy(model.network.layers(images.view(-1, 784)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
        times.append(time.perf_counter())
    Path(output).write_text(json.dumps(np.diff(times).tolist()))


def perform(task: Task, seed: int, epochs: int) -> float:
    """Perform a task in a process of its own; return the median seconds of its epochs without the first."""
    output = "seconds.json"
    if task.loop:
        call = f"train({task.loop!r}, {task.config!r}, {epochs}, {seed}, {output!r})"
        arguments = ["-c", f"import throughput; throughput.{call}"]
    else:
        arguments = ["-m", "mnist_lit", "fit", *(["--config", task.config] if task.config else []), *task.options]
        arguments += [f"--seed_everything={seed}", f"--data.data_dir={DATA}", "--data.val_size=0"]
        arguments += [f"--trainer.max_epochs={epochs}", "--trainer.callbacks+=throughput.EpochTimer"]
        arguments += [f"--trainer.callbacks.output={output}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", SPAWN, sys.executable, *arguments]
        process = subprocess.run(command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if process.returncode != 0:
            sys.exit(f"{arguments} failed:\n{process.stdout.decode(errors='replace')}")
        return float(median(json.loads(Path(folder, output).read_text())[1:]))  # the first has one-time costs


def measure(tasks: Sequence[Task], repeats: int, epochs: int) -> list[list[float]]:
    """Return the seconds of an epoch of each task, performed in turn with the seeds 0, 1, ..."""
    mnist.unpack(DATA)
    rounds = []
    for seed in range(repeats):
        print(f"Round {seed + 1} of {repeats} ...", file=sys.stderr)
        rounds.append([perform(task, seed, epochs) for task in tasks])
    return [list(values) for values in zip(*rounds, strict=True)]


if __name__ == "__main__":
    options = make_parser(
        __doc__,
        repeats=(5, "processes of each"),
        epochs=(3, "epochs of each process, at least 2"),
        processes=([], "numbers of processes to measure, in place of the contestants"),
        batch_sizes=([100, 10_000], "of all these processes together"),
    ).parse_args()
    shared = [share(processes, size) for size in options.batch_sizes for processes in options.processes]
    tasks = shared or CONTESTANTS
    print_head("", "recipe", "seconds for 60,000 images", "least to most", "images a second", "ratio")
    firsts: dict[str, list[float]] = {}
    for task, seconds in zip(tasks, measure(tasks, options.repeats, options.epochs), strict=True):
        ratio = median(map(truediv, seconds, firsts.setdefault(task.recipe, seconds)))
        speeds = f"{min(seconds):.2f} to {max(seconds):.2f}", f"{TRAIN_SIZE / median(seconds):,.0f}"
        print_row(task.label, task.recipe, f"{median(seconds):.2f}", *speeds, f"{ratio:.2f}")
    print(f"\n{os.cpu_count()} cores; Python {platform.python_version()}, torch {version('torch')}")
