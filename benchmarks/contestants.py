"""Ways to train the same network, and the runner that gives each a process of its own: for the programs that time them.

A contestant is given a `Run`, and counts there the seconds of its phases and epochs. It imports what it needs itself,
so that the processes of JAX and scikit-learn carry no torch.
"""

import argparse
import json
import math
import os
import platform
import pty
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import UserList
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch import Tensor, nn
    from torch.optim import SGD
    from torch.optim.lr_scheduler import LRScheduler

    from mnist_lit.network import Batch

T = TypeVar("T")
Result = dict[str, Any]

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
DATA = ROOT / "data"
ARTICLE = ROOT / "configs" / "article.yaml"
FAST = ROOT / "configs" / "fast.yaml"
TRAIN_SIZE = 60_000
PHASES = ("imports", "data", "training", "test")
RESULT = "result.json"  # in the folder in which a process is started
OPTIONAL = {"jax": "jax", "sklearn": "scikit-learn"}  # contestant, which is the module too, and package
ENVIRONMENT = os.environ | {
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    # As mnist_lit's command line has it: two threads gain nothing here, and on a busy machine wait for each other.
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(BENCHMARKS)]),
}


@dataclass
class Run:
    """What a contestant is given, and the seconds that it counts.

    Attributes:
        model: The recipe: arguments of MNISTClassifier.
        data: Arguments of MNISTDataModule.
        epochs: How many to train.
        seed: Of the weights and of the order of the images.
        size: Train on so many images, MNIST's first ones or MNIST repeated: ``mnist_lit`` alone knows how.
        phases: Seconds of each phase.
        seconds: Seconds of each epoch.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    epochs: int
    seed: int
    size: int | None
    phases: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    seconds: list[float] = field(default_factory=list)

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return int(self.data["batch_size"])

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Inputs of each layer, and the ten outputs."""
        return (784, *self.model["hidden_sizes"], 10)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block as that of a phase."""
        start = time.perf_counter()
        yield
        self.phases[name] += time.perf_counter() - start

    def timed(self, epochs: Iterable[T]) -> Iterator[T]:
        """Give a loop these values, and count each of its rounds as an epoch."""
        for value in epochs:
            start = time.perf_counter()
            yield value
            self.seconds.append(time.perf_counter() - start)

    def read_mnist(self) -> list[Any]:
        """Return NumPy arrays: training images, uint8 ``(N, 784)``, their labels, int64, and the same of the test."""
        import numpy as np

        arrays: list[Any] = []
        for prefix, first in ("train", self.data["val_size"]), ("t10k", 0):
            path = f"{DATA}/MNIST/raw/{prefix}"
            arrays.append(np.fromfile(f"{path}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 784)[first:])
            arrays.append(np.fromfile(f"{path}-labels-idx1-ubyte", np.uint8, offset=8).astype(np.int64)[first:])
        return arrays


def plain_network(run: Run) -> "nn.Module":
    """Return the network in plain torch."""
    from torch import nn

    activation = {"identity": nn.Identity, "relu": nn.ReLU, "silu": nn.SiLU}[run.model["activation"]]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(run.layer_sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def train(
    network: "nn.Module", batches: "Iterable[Batch]", optimizer: "SGD", scheduler: "LRScheduler | None" = None
) -> None:
    """Train for an epoch in a plain loop."""
    from torch.nn.functional import cross_entropy

    for images, labels in batches:
        loss = cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler:
            scheduler.step()


def article(run: Run) -> None:
    """Train as the article does: images opened one by one, a plain loop."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    network = plain_network(run)
    optimizer = torch.optim.SGD(network.parameters(), run.model["lr"])
    loader = DataLoader(MNIST(DATA, transform=ToTensor()), run.batch_size, shuffle=True)
    for _ in run.timed(range(run.epochs)):
        train(network, loader, optimizer)


def pytorch(run: Run) -> float:
    """Train in a plain PyTorch loop over tensors in memory."""
    with run.phase("imports"):
        import torch
        import torch._dynamo  # torch.optim imports it when the first optimiser is made
        from torch.optim.lr_scheduler import OneCycleLR
    torch.manual_seed(run.seed)
    with run.phase("data"):
        images, labels, test_images, test_labels = map(torch.from_numpy, run.read_mnist())

    def batches() -> "Iterator[Batch]":
        for indices in torch.randperm(len(labels)).split(run.batch_size):
            yield images.index_select(0, indices).div(255), labels.index_select(0, indices)

    with run.phase("training"):
        network = plain_network(run)
        options = {name: run.model[name] for name in ("lr", "momentum", "nesterov", "weight_decay")}
        optimizer = torch.optim.SGD(network.parameters(), **options, fused=True)
        scheduler = None
        if run.model["schedule"] == "one_cycle":
            steps = run.epochs * math.ceil(len(labels) / run.batch_size)
            scheduler = OneCycleLR(optimizer, run.model["lr"], steps, cycle_momentum=False)
        for _ in run.timed(range(run.epochs)):
            train(network, batches(), optimizer, scheduler)
    with run.phase("test"), torch.no_grad():
        return float((network(test_images.div(255)).argmax(dim=1) == test_labels).float().mean())


def bare_trainer(run: Run) -> "Trainer":
    """Return a Trainer that shows nothing and keeps nothing, but for the seconds."""
    from lightning.pytorch import Trainer

    from epoch_timer import EpochTimer
    from mnist_lit.callbacks import StepsPerExecution

    return Trainer(
        max_epochs=run.epochs,
        callbacks=[EpochTimer(RESULT), StepsPerExecution()],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def mnist_lit(run: Run) -> float:
    """Train and test with this package as one does from Python: nothing shown, nothing kept."""
    with run.phase("imports"):
        from lightning.pytorch import seed_everything

        from mnist_lit import MNISTClassifier, MNISTDataModule

    class Resized(MNISTDataModule):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            if run.size and stage == "fit":
                images, labels = self._train
                repeats = math.ceil(run.size / len(images))
                self._train = images.repeat(repeats, 1, 1)[: run.size], labels.repeat(repeats)[: run.size]

    seed_everything(run.seed)
    with run.phase("training"):
        model, data, trainer = MNISTClassifier(**run.model), Resized(**run.data), bare_trainer(run)
        trainer.fit(model, data)
    with run.phase("test"):
        (metrics,) = trainer.test(model, data, verbose=False)
    return metrics["test_acc"]


def floor(run: Run) -> None:
    """Take Lightning's steps one by one: no metrics, logger, bar, checkpoint or validation, batches cut beforehand."""
    import torch

    from mnist_lit import MNISTClassifier, MNISTDataModule

    class Floor(MNISTClassifier):
        def training_step(self, batch: "Batch", batch_idx: int) -> "Tensor":
            images, labels = batch
            return torch.nn.functional.cross_entropy(self.network(images), labels)

        def on_train_epoch_end(self) -> None:
            pass

    data = MNISTDataModule(**run.data)
    data.setup("fit")
    # Lightning takes a list for one of loaders.
    bare_trainer(run).fit(Floor(**run.model), UserList(data.train_dataloader()))


def template(run: Run) -> None:
    """Train as templates do: images one by one through transforms, metrics and the progress bar at every step."""
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import TQDMProgressBar
    from torch.utils.data import DataLoader
    from torchmetrics.classification import MulticlassAccuracy
    from torchvision.datasets import MNIST
    from torchvision.transforms import Compose, Normalize, ToTensor

    from epoch_timer import EpochTimer

    class Template(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = plain_network(run)
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
            return torch.optim.SGD(self.parameters(), run.model["lr"])

    transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])
    loader = DataLoader(MNIST(DATA, transform=transform), run.batch_size, shuffle=True)
    Trainer(max_epochs=run.epochs, callbacks=[EpochTimer(RESULT), TQDMProgressBar()]).fit(Template(), loader)


def products(run: Run) -> None:
    """Do the step's eight matrix products alone: three forward, and backward three for weights and two for inputs."""
    import torch

    inputs = [torch.rand(run.batch_size, size) for size in run.layer_sizes]
    weights = [torch.rand(outputs, inputs) for inputs, outputs in pairwise(run.layer_sizes)]
    for _ in run.timed(range(run.epochs)):
        for _ in range((TRAIN_SIZE - run.data["val_size"]) // run.batch_size):
            for layer, weight in enumerate(weights):
                torch.mm(inputs[layer], weight.t())
                torch.mm(inputs[layer + 1].t(), inputs[layer])
                if layer > 0:
                    torch.mm(inputs[layer + 1], weight)


def sklearn(run: Run) -> float:
    """Train scikit-learn's MLPClassifier with SGD, whose momentum starts anew with each epoch."""
    with run.phase("imports"):
        import numpy as np
        from sklearn.neural_network import MLPClassifier
    with run.phase("data"):
        images, labels, test_images, test_labels = run.read_mnist()
        images, test_images = images / np.float32(255), test_images / np.float32(255)
    activation, rates, batch_size = run.model["activation"], [run.model["lr"]] * run.epochs, run.batch_size
    if run.model["schedule"] == "one_cycle":  # which it does not have: the best of five lists on the validation images
        activation, rates, batch_size = "relu", [0.1, 0.15, 0.1, 0.05, 0.02, 0.005], 128
    with run.phase("training"):
        classifier = MLPClassifier(
            run.model["hidden_sizes"],
            activation,
            solver="sgd",
            alpha=run.model["weight_decay"],
            batch_size=batch_size,
            momentum=run.model["momentum"],
            nesterovs_momentum=run.model["nesterov"],
            max_iter=1,
            warm_start=True,
            random_state=np.random.RandomState(run.seed),  # a number would shuffle each epoch alike
        )
        for rate in run.timed(rates):
            classifier.set_params(learning_rate_init=rate).fit(images, labels)
    with run.phase("test"):
        return float(classifier.score(test_images, test_labels))


def learning_rates(run: Run, steps: int) -> Any:
    """Return the learning rate of each step, float32: as torch's OneCycleLR has it, or the constant one."""
    import numpy as np

    highest = run.model["lr"]
    if run.model["schedule"] == "constant":
        return np.full(steps, highest, np.float32)
    step, rise = np.arange(steps), 0.3 * steps - 1
    low = np.where(step <= rise, highest / 25, highest / 25e4)
    half_waves = np.interp(step, [0, rise, steps - 1], [0, 1, 2])
    return (low + (highest - low) / 2 * (1 - np.cos(np.pi * half_waves))).astype(np.float32)


def jax(run: Run) -> float:
    """Train with JAX: an epoch, without its last, smaller batch, is one compiled ``lax.scan``."""
    with run.phase("imports"):
        import jax
        import numpy as np
        from jax import numpy as jnp
    random = np.random.default_rng(run.seed)
    momentum, weight_decay = run.model["momentum"], run.model["weight_decay"]

    def draw(inputs: int, *shape: int) -> Any:
        return jnp.asarray(random.uniform(-1, 1, shape) / inputs**0.5, jnp.float32)  # as torch draws them

    def logits(parameters: Any, images: Any) -> Any:
        *hidden, (last_weight, last_bias) = parameters
        for weight, bias in hidden:
            images = images @ weight + bias
            if run.model["activation"] != "identity":
                images = getattr(jax.nn, run.model["activation"])(images)
        return images @ last_weight + last_bias

    def loss(parameters: Any, images: Any, labels: Any) -> Any:
        return -jax.nn.log_softmax(logits(parameters, images))[jnp.arange(len(labels)), labels].mean()

    # Closed over, the images would be compiled in, which takes a second.
    def train_epoch(state: Any, images: Any, labels: Any, batches: Any) -> Any:
        def step(state: Any, batch: Any) -> Any:
            parameters, momenta = state
            indices, rate = batch
            pixels = images[indices].astype(jnp.float32) / 255
            steps = jax.grad(loss)(parameters, pixels, labels[indices])
            if weight_decay:
                steps = jax.tree.map(lambda s, p: s + weight_decay * p, steps, parameters)
            if momentum:
                momenta = jax.tree.map(lambda m, s: momentum * m + s, momenta, steps)
                steps = jax.tree.map(lambda m, s: s + momentum * m, momenta, steps)  # Nesterov's
            return (jax.tree.map(lambda p, s: p - rate * s, parameters, steps), momenta), None

        return jax.lax.scan(step, state, batches)[0]

    with run.phase("data"):
        images, labels, test_images, test_labels = map(jnp.asarray, run.read_mnist())
    with run.phase("training"):
        compiled = jax.jit(train_epoch)
        parameters = [
            (draw(inputs, inputs, outputs), draw(inputs, outputs)) for inputs, outputs in pairwise(run.layer_sizes)
        ]
        state = parameters, jax.tree.map(jnp.zeros_like, parameters)
        steps = len(labels) // run.batch_size
        for rates in run.timed(learning_rates(run, run.epochs * steps).reshape(run.epochs, steps)):
            order = random.permutation(len(labels))[: steps * run.batch_size].reshape(steps, -1)
            state = compiled(state, images, labels, (order, rates))
            state[0][0][0].block_until_ready()
    with run.phase("test"):
        return float((logits(state[0], test_images / 255).argmax(axis=1) == test_labels).mean())


class Task(NamedTuple):
    """A row of a table.

    Attributes:
        label: What stands in the table.
        contestant: The name of a function above, or ``fit``.
        config: The file of the recipe; without one, the default recipe.
        size: As for `Run`.
    """

    label: str
    contestant: str
    config: Path | None = None
    size: int | None = None


def run_python(*arguments: str) -> Result:
    """Run Python in a folder and on a terminal of its own; return what it wrote to RESULT, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        terminal, theirs = pty.openpty()
        command = [sys.executable, *arguments]
        start = time.perf_counter()
        with subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=theirs, stderr=subprocess.PIPE, text=True
        ) as process:
            os.close(theirs)
            threading.Thread(target=drain, args=(terminal,), daemon=True).start()
            _, errors = process.communicate()
        seconds = time.perf_counter() - start
        os.close(terminal)
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{errors}")
        return {"whole": seconds, **json.loads(Path(folder, RESULT).read_text())}


def drain(terminal: int) -> None:
    """Read what a process writes to its terminal, which would fill and stop the process."""
    with suppress(OSError):  # the process is gone
        while os.read(terminal, 65536):
            pass


def fit(epochs: int, *options: str) -> Result:
    """Train as a user does, from the command line, and return the seconds of each epoch and of its validation."""
    timer = "--trainer.callbacks+=epoch_timer.EpochTimer", f"--trainer.callbacks.output={RESULT}"
    options = (*options, f"--data.data_dir={DATA}", f"--trainer.max_epochs={epochs}", *timer)
    return run_python("-m", "mnist_lit", "fit", *options)


def perform(task: Task, seed: int, epochs: int | None = None) -> Result:
    """Perform a task, by default for the epochs of its recipe."""
    import yaml

    from mnist_lit import MNISTClassifier, MNISTDataModule

    config = yaml.safe_load(task.config.read_text()) if task.config else {}
    epochs = epochs or config["trainer"]["max_epochs"]
    model, data = (
        {name: parameter.default for name, parameter in signature(part).parameters.items()} | config.get(key, {})
        for key, part in (("model", MNISTClassifier), ("data", MNISTDataModule))
    )
    data |= {"data_dir": str(DATA)} | ({"val_size": 0} if task.size else {})
    if task.contestant == "fit":
        recipe = ["--config", str(task.config)] if task.config else []
        result = fit(epochs, *recipe, f"--seed_everything={seed}")
    else:
        run = {"model": model, "data": data, "epochs": epochs, "seed": seed, "size": task.size}
        result = run_python(__file__, task.contestant, json.dumps(run))
    return {"images": task.size or TRAIN_SIZE - data["val_size"], **result}


def measure(tasks: Mapping[str, Task], repeats: int, epochs: int | None = None) -> dict[str, list[Result]]:
    """Perform the tasks in turn, with the seeds 0, 1, ..."""
    from mnist_lit import MNISTDataModule

    MNISTDataModule(DATA).prepare_data()
    results: dict[str, list[Result]] = {name: [] for name in tasks}
    for seed in range(repeats):
        for name, task in tasks.items():
            print(f"\rround {seed + 1} of {repeats}: {name:<16}", end="", file=sys.stderr, flush=True)
            results[name].append(perform(task, seed, epochs))
    print(file=sys.stderr)
    return results


def epoch_seconds(result: Result) -> float:
    """Return the median seconds of an epoch, without the first, which has one-time costs."""
    return float(statistics.median(result["epochs"][1:]))


def command_line(description: str | None, tasks: Mapping[str, Task]) -> argparse.ArgumentParser:
    """Return a parser with the options of every program that prints a table of tasks."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    installed = [name for name, task in tasks.items() if task.contestant not in OPTIONAL or find_spec(task.contestant)]
    parser.add_argument(
        "--only", nargs="+", choices=tasks, default=installed, metavar="NAME", help=f"of these: {' '.join(tasks)}"
    )
    parser.add_argument("--repeats", type=int, default=5, help="processes of each, with the seeds 0, 1, ...")
    parser.add_argument("--markdown", type=Path, help="file to write the table to")
    return parser


def publish(lines: Iterable[str], markdown: Path | None) -> None:
    """Print a table and what it was measured on, and write both to a file where one is given."""
    text = "\n".join([*lines, "", machine()]) + "\n"
    print(text, end="")
    if markdown:
        markdown.write_text(text)


def machine() -> str:
    """Return what the measurement ran on."""
    cpuinfo = Path("/proc/cpuinfo")  # of Linux
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    cpu = next((line for line in lines if "model name" in line), f": {platform.processor()}")
    installed = ["torch", "lightning", *(package for module, package in OPTIONAL.items() if find_spec(module))]
    packages = ", ".join(f"{name} {version(name)}" for name in installed)
    return f"{os.cpu_count()} cores, {cpu.split(': ')[1]}; Python {platform.python_version()}, {packages}."


def main() -> None:
    """Be the contestant that is named, with the run that is given."""
    name, given = sys.argv[1:]
    run = Run(**json.loads(given))
    accuracy = globals()[name](run)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {**run.phases, "epochs": run.seconds, "accuracy": accuracy, "peak": peak}
    file = Path(RESULT)
    if file.exists():  # of EpochTimer
        result |= json.loads(file.read_text())
    file.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
