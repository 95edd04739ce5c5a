"""Measure what an epoch of the article's recipe costs: this package beside plain PyTorch and Lightning alone.

    python benchmarks/throughput.py

Each trains on all 60,000 images, one after another in each round, in a process and on a terminal of its own. Seconds
are those for which the process has a core, since other programs of a busy machine would count otherwise. Ratios are
medians of the rounds' ratios.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor
from typing_extensions import override

from console import DATA, ROOT, make_parser, print_head, print_row
from mnist_lit import mnist
from mnist_lit.datamodule import Batch

OUTPUT = Path("seconds.npy")  # of each epoch, in the current directory of a process that is measured
ON_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
ENVIRONMENT = os.environ | {
    "CUDA_VISIBLE_DEVICES": "",
    # As on mnist_lit's command line: two threads gain nothing here, and on a busy machine wait for each other.
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")]),
}


class EpochTimer(Callback):
    """Writes the seconds from the start of each epoch to that of the next one."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.starts.append(time.process_time())

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        np.save(OUTPUT, np.diff([*self.starts, time.process_time()]))


class Article(LightningModule):
    """The article's network and its step, as docs/plain.md has them."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.Linear(128, 64), nn.Linear(64, 10))

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss, on_epoch=True, prog_bar=True)
        return loss

    @override
    def configure_optimizers(self) -> torch.optim.SGD:
        return torch.optim.SGD(self.parameters(), lr=0.01, fused=self.fused)


class InMemory:
    """Cuts shuffled batches of 100 from tensors."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.unsqueeze(1), labels

    def __len__(self) -> int:
        return len(self.labels) // 100

    def __iter__(self) -> Iterator[Batch]:
        for indices in torch.randperm(len(self.labels)).split(100):
            yield self.images.index_select(0, indices).div(255), self.labels.index_select(0, indices)


def train(loop: str, seed: int, epochs: int) -> None:
    """Train in the article's loop, in a plain one over tensors in memory, or over these by Lightning alone."""
    seed_everything(seed)
    opened = MNIST(DATA, transform=ToTensor())
    is_article = loop == "article"
    batches: Any = DataLoader(opened, 100, shuffle=True) if is_article else InMemory(opened.data, opened.targets)
    model = Article(fused=not is_article)  # as this package's optimizer is
    if loop == "lightning":
        Trainer(max_epochs=epochs, callbacks=[EpochTimer()]).fit(model, batches)
        return
    optimizer, times = model.configure_optimizers(), [time.process_time()]
    for _ in range(epochs):
        for images, labels in batches:
            loss = F.cross_entropy(model.network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        times.append(time.process_time())
    np.save(OUTPUT, np.diff(times))


def contestants(seed: int, epochs: int) -> dict[str, list[str]]:
    """Return the arguments with which Python trains in each way; ratios are to the first."""
    own = "-c", f"import sys, throughput; throughput.train(sys.argv[1], {seed}, {epochs})"
    fit, config = ("-m", "mnist_lit", "fit"), ("--config", str(ROOT / "configs" / "article.yaml"))
    timed = "--data.val_size=0", "--trainer.callbacks+=throughput.EpochTimer", f"--trainer.max_epochs={epochs}"
    shared = f"--seed_everything={seed}", f"--data.data_dir={DATA}", *timed
    return {
        "**`mnist_lit fit --config configs/article.yaml`**": [*fit, *config, *shared],
        "the article's loop: images opened one by one": [*own, "article"],
        "bare PyTorch loop over tensors in memory": [*own, "bare"],
        "Lightning alone, over the same tensors": [*own, "lightning"],
        "`mnist_lit fit`: the default recipe": [*fit, *shared],
    }


def measure(arguments: list[str]) -> float:
    """Train in a process of its own; return the median seconds of its epochs without the first."""
    command = [sys.executable, "-c", ON_A_TERMINAL, sys.executable, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if process.returncode != 0:
            sys.exit(f"{arguments} failed:\n{process.stdout.decode(errors='replace')}")
        return float(np.median(np.load(Path(folder, OUTPUT))[1:]))  # the first has one-time costs


if __name__ == "__main__":
    options = make_parser(__doc__, repeats=(5, "rounds"), epochs=(3, "epochs of each, at least 2")).parse_args()
    mnist.unpack(DATA)
    rounds = []
    for seed in range(options.repeats):
        ways = contestants(seed, options.epochs)
        rounds.append([measure(arguments) for arguments in ways.values()])
        print(f"Round {seed + 1}:", *(f"{seconds:.2f}" for seconds in rounds[-1]), file=sys.stderr)
    print_head("", "seconds for 60,000 images", "least to most", "ratio")
    columns = np.transpose(rounds)
    for way, seconds in zip(ways, columns, strict=True):
        ratio = np.median(seconds / columns[0])
        print_row(way, f"{np.median(seconds):.2f}", f"{seconds.min():.2f} to {seconds.max():.2f}", f"{ratio:.2f}")
    print(f"\n{os.cpu_count()} cores; Python {platform.python_version()}, torch {version('torch')}")
