"""Ways to train the same network, each in a process of its own: ``python contestants.py NAME RUN``, as timing.py does.

A contestant is given a `Run`, and counts there the seconds of its phases and epochs. It imports what it needs itself,
so that the processes of JAX and scikit-learn carry no torch.
"""

import json
import math
import resource
import sys
import time
from collections import UserList, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch import Tensor, nn
    from torch.optim import SGD
    from torch.utils.data import DataLoader

    from mnist_lit.network import Batch

LAYERS = (784, 128, 64, 10)
PHASES = ("imports", "data", "training", "test")
RESULT = "result.json"  # in the folder in which a process is started


@dataclass
class Run:
    """A contestant's task, and the seconds that it counts."""

    model: dict[str, Any]  # the recipe: arguments of MNISTClassifier
    data: dict[str, Any]  # arguments of MNISTDataModule
    epochs: int
    seed: int  # of the weights and of the order of the images
    size: int | None  # train on so many images, MNIST's first ones or MNIST repeated; only mnist_lit can
    laps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    start: float = field(default_factory=time.perf_counter)  # of this lap

    def lap(self, phase: str) -> None:
        """Count the time since the last lap as that of a phase, of an epoch if it is the training."""
        now = time.perf_counter()
        self.laps[phase].append(now - self.start)
        self.start = now

    def read_mnist(self) -> list[Any]:
        """Return NumPy arrays: training images, uint8 ``(N, 784)``, their labels, int64, and the same of the test."""
        import numpy as np

        arrays: list[Any] = []
        for prefix, first in ("train", self.data["val_size"]), ("t10k", 0):
            path = f"{self.data['data_dir']}/MNIST/raw/{prefix}"
            arrays.append(np.fromfile(f"{path}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 784)[first:])
            arrays.append(np.fromfile(f"{path}-labels-idx1-ubyte", np.uint8, offset=8).astype(np.int64)[first:])
        return arrays


def plain_network(run: Run) -> "nn.Module":
    """Return the network in plain torch."""
    from torch import nn

    activation = {"identity": nn.Identity, "relu": nn.ReLU, "silu": nn.SiLU}[run.model["activation"]]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(LAYERS):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def train(network: "nn.Module", batches: "Iterable[Batch]", optimizer: "SGD", scheduler: Any = None) -> None:
    """Train for an epoch in a plain loop."""
    from torch.nn.functional import cross_entropy

    for images, labels in batches:
        loss = cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler:
            scheduler.step()


def one_by_one(run: Run, *more: Any) -> "DataLoader[Batch]":
    """Return batches of images that are opened one by one, through ToTensor and more transforms."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import MNIST
    from torchvision.transforms import Compose, ToTensor

    dataset = MNIST(run.data["data_dir"], transform=Compose([ToTensor(), *more]))
    return DataLoader(dataset, run.data["batch_size"], shuffle=True)


def article(run: Run) -> None:
    """Train as the article does: images opened one by one, a plain loop."""
    from torch.optim import SGD

    network, loader = plain_network(run), one_by_one(run)
    optimizer = SGD(network.parameters(), run.model["lr"])
    for _ in range(run.epochs):
        train(network, loader, optimizer)
        run.lap("training")


def pytorch(run: Run) -> float:
    """Train in a plain PyTorch loop over tensors in memory."""
    import torch
    import torch._dynamo  # torch.optim imports it when the first optimiser is made
    from torch.optim.lr_scheduler import OneCycleLR

    run.lap("imports")
    torch.manual_seed(run.seed)
    images, labels, test_images, test_labels = map(torch.from_numpy, run.read_mnist())
    run.lap("data")

    def batches() -> "Iterator[Batch]":
        for indices in torch.randperm(len(labels)).split(run.data["batch_size"]):
            yield images.index_select(0, indices).div(255), labels.index_select(0, indices)

    network = plain_network(run)
    options = {name: run.model[name] for name in ("lr", "momentum", "nesterov", "weight_decay")}
    optimizer = torch.optim.SGD(network.parameters(), **options, fused=True)
    scheduler = None
    if run.model["schedule"] == "one_cycle":
        steps = run.epochs * math.ceil(len(labels) / run.data["batch_size"])
        scheduler = OneCycleLR(optimizer, run.model["lr"], steps, cycle_momentum=False)
    for _ in range(run.epochs):
        train(network, batches(), optimizer, scheduler)
        run.lap("training")
    with torch.no_grad():
        return float((network(test_images.div(255)).argmax(dim=1) == test_labels).float().mean())


def bare_trainer(run: Run) -> "Trainer":
    """Return a Trainer that shows nothing and keeps only the seconds."""
    from lightning.pytorch import Trainer

    from epoch_timer import EpochTimer
    from mnist_lit import StepsPerExecution

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
    from lightning.pytorch import seed_everything

    from mnist_lit import MNISTClassifier, MNISTDataModule

    run.lap("imports")

    class Resized(MNISTDataModule):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            if run.size and stage == "fit":
                images, labels = self.train_data
                repeats = math.ceil(run.size / len(images))
                self.train_data = images.repeat(repeats, 1, 1)[: run.size], labels.repeat(repeats)[: run.size]

    seed_everything(run.seed)
    model, data, trainer = MNISTClassifier(**run.model), Resized(**run.data), bare_trainer(run)
    trainer.fit(model, data)
    run.lap("training")
    (metrics,) = trainer.test(model, data, verbose=False)
    return metrics["test_acc"]


def floor(run: Run) -> None:
    """Take Lightning's steps one by one: no metrics, logger, bar, checkpoint or validation, batches cut beforehand."""
    from torch.nn.functional import cross_entropy

    from mnist_lit import MNISTClassifier, MNISTDataModule

    class Floor(MNISTClassifier):
        def training_step(self, batch: "Batch", batch_idx: int) -> "Tensor":
            images, labels = batch
            return cross_entropy(self.network(images), labels)

        def on_train_epoch_end(self) -> None:
            pass

    data = MNISTDataModule(**run.data)
    data.setup("fit")
    # Lightning takes a list for several loaders.
    bare_trainer(run).fit(Floor(**run.model), UserList(data.train_dataloader()))


def template(run: Run) -> None:
    """Train as templates do: images one by one through transforms, metrics and the progress bar at every step."""
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import TQDMProgressBar
    from torchmetrics.classification import MulticlassAccuracy
    from torchvision.transforms import Normalize

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

    trainer = Trainer(max_epochs=run.epochs, callbacks=[EpochTimer(RESULT), TQDMProgressBar()])
    trainer.fit(Template(), one_by_one(run, Normalize((0.1307,), (0.3081,))))


def products(run: Run) -> None:
    """Do only the step's eight matrix products: three forward, and backward three for weights and two for inputs."""
    import torch

    inputs = [torch.rand(run.data["batch_size"], size) for size in LAYERS]
    weights = [torch.rand(outputs, inputs) for inputs, outputs in pairwise(LAYERS)]
    for _ in range(run.epochs):
        for _ in range(60_000 // run.data["batch_size"]):
            for layer, weight in enumerate(weights):
                torch.mm(inputs[layer], weight.t())
                torch.mm(inputs[layer + 1].t(), inputs[layer])
                if layer > 0:
                    torch.mm(inputs[layer + 1], weight)
        run.lap("training")


def sklearn(run: Run) -> float:
    """Train scikit-learn's MLPClassifier with SGD, whose momentum starts again with each epoch."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    run.lap("imports")
    images, labels, test_images, test_labels = run.read_mnist()
    images, test_images = images / np.float32(255), test_images / np.float32(255)
    run.lap("data")
    model, batch_size = run.model, run.data["batch_size"]
    activation, rates = model["activation"], [model["lr"]] * run.epochs
    if model["schedule"] == "one_cycle":  # which it does not have: the best of five lists on the validation images
        activation, rates, batch_size = "relu", [0.1, 0.15, 0.1, 0.05, 0.02, 0.005], 128
    classifier = MLPClassifier(
        LAYERS[1:-1],
        activation,
        solver="sgd",
        alpha=model["weight_decay"],
        batch_size=batch_size,
        momentum=model["momentum"],
        nesterovs_momentum=model["nesterov"],
        max_iter=1,
        warm_start=True,
        random_state=np.random.RandomState(run.seed),  # a number would shuffle each epoch alike
    )
    for rate in rates:
        classifier.set_params(learning_rate_init=rate).fit(images, labels)
        run.lap("training")
    return float(classifier.score(test_images, test_labels))


def learning_rates(run: Run, steps: int) -> Any:
    """Return the learning rate of each step, float32: as in torch's OneCycleLR, or the constant one."""
    import numpy as np

    highest = run.model["lr"]
    if run.model["schedule"] == "constant":
        return np.full(steps, highest, np.float32)
    step, rise = np.arange(steps), 0.3 * steps - 1
    low = np.where(step <= rise, highest / 25, highest / 25e4)
    half_waves = np.interp(step, [0, rise, steps - 1], [0, 1, 2])
    return (low + (highest - low) / 2 * (1 - np.cos(np.pi * half_waves))).astype(np.float32)


def jax(run: Run) -> float:
    """Train with JAX, without weight decay: an epoch, without its last, smaller batch, is one compiled ``lax.scan``."""
    import jax
    import numpy as np
    from jax import numpy as jnp

    run.lap("imports")
    random = np.random.default_rng(run.seed)
    momentum = run.model["momentum"]

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
            if momentum:
                momenta = jax.tree.map(lambda m, s: momentum * m + s, momenta, steps)
                steps = jax.tree.map(lambda m, s: s + momentum * m, momenta, steps)  # Nesterov's
            return (jax.tree.map(lambda p, s: p - rate * s, parameters, steps), momenta), None

        return jax.lax.scan(step, state, batches)[0]

    images, labels, test_images, test_labels = map(jnp.asarray, run.read_mnist())
    run.lap("data")
    compiled = jax.jit(train_epoch)
    parameters = [(draw(inputs, inputs, outputs), draw(inputs, outputs)) for inputs, outputs in pairwise(LAYERS)]
    state = parameters, jax.tree.map(jnp.zeros_like, parameters)
    steps = len(labels) // run.data["batch_size"]
    for rates in learning_rates(run, run.epochs * steps).reshape(run.epochs, steps):
        order = random.permutation(len(labels))[: steps * run.data["batch_size"]].reshape(steps, -1)
        state = compiled(state, images, labels, (order, rates))
        state[0][0][0].block_until_ready()
        run.lap("training")
    return float((logits(state[0], test_images / 255).argmax(axis=1) == test_labels).mean())


def main() -> None:
    """Be the contestant that is named, with the run that is given."""
    name, given = sys.argv[1:]
    run = Run(**json.loads(given))
    accuracy = globals()[name](run)
    run.lap("test")
    result = {phase: sum(run.laps[phase]) for phase in PHASES} | {"epochs": run.laps["training"], "accuracy": accuracy}
    result["peak"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    file = Path(RESULT)
    if file.exists():  # of EpochTimer
        result |= json.loads(file.read_text())
    file.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
