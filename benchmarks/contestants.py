"""Ways to train the same network, each in a process of its own, which throughput.py starts.

A contestant is given a `Run`, and counts there the seconds of its phases and epochs. It imports what it needs itself,
so that the processes of JAX and scikit-learn carry no torch.
"""

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

PHASES = ("imports", "data", "training", "test")
RESULT = "result.json"  # in the folder in which a process is started


@dataclass
class Run:
    """A contestant's task, and the seconds that it counts."""

    model: dict[str, Any]  # the recipe: arguments of MNISTClassifier
    data: dict[str, Any]  # arguments of MNISTDataModule
    epochs: int
    seed: int  # of the weights and of the order of the images
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


def _train(run: Run, network: Any, epoch: Callable[[], Iterable[Any]], optimizer: Any, scheduler: Any = None) -> None:
    from torch.nn.functional import cross_entropy

    for _ in range(run.epochs):
        for images, labels in epoch():
            loss = cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
        run.lap("training")


def article(run: Run) -> None:
    """Train as the article does: images opened one by one, a plain loop."""
    from torch.optim import SGD
    from torch.utils.data import DataLoader
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    from mnist_lit import MLP

    network = MLP(run.model["hidden_sizes"], run.model["activation"], run.model["upright"])
    loader = DataLoader(MNIST(run.data["data_dir"], transform=ToTensor()), run.data["batch_size"], shuffle=True)
    _train(run, network, lambda: loader, SGD(network.parameters(), run.model["lr"]))


def pytorch(run: Run) -> float:
    """Train in a plain PyTorch loop over tensors in memory."""
    import torch
    import torch._dynamo  # torch.optim imports it when the first optimiser is made
    from torch.optim.lr_scheduler import OneCycleLR

    from mnist_lit import MLP
    from mnist_lit.datamodule import TensorBatches
    from mnist_lit.network import Upright

    run.lap("imports")
    torch.manual_seed(run.seed)
    images, labels, test_images, test_labels = map(torch.from_numpy, run.read_mnist())
    network = MLP(run.model["hidden_sizes"], run.model["activation"], run.model["upright"])
    if run.model["upright"]:
        images = TensorBatches(images.view(-1, 28, 28), labels, 1, upright=Upright()).images.view(-1, 784)
    run.lap("data")

    def batches() -> Iterator[Any]:
        for indices in torch.randperm(len(labels)).split(run.data["batch_size"]):
            yield images.index_select(0, indices).div(255), labels.index_select(0, indices)

    options = {name: run.model[name] for name in ("lr", "momentum", "nesterov", "weight_decay")}
    optimizer = torch.optim.SGD(network.parameters(), **options, fused=True)
    scheduler = None
    if run.model["schedule"] == "one_cycle":
        steps = run.epochs * math.ceil(len(labels) / run.data["batch_size"])
        scheduler = OneCycleLR(optimizer, run.model["lr"], steps, cycle_momentum=False)
    _train(run, network.layers, batches, optimizer, scheduler)
    with torch.no_grad():
        return float((network(test_images.view(-1, 1, 28, 28).div(255)).argmax(dim=1) == test_labels).float().mean())


def mnist_lit(run: Run) -> float:
    """Train and test with this package as one does from Python: nothing shown, nothing kept."""
    from lightning.pytorch import Trainer, seed_everything

    from mnist_lit import MNISTClassifier, MNISTDataModule, StepsPerExecution

    run.lap("imports")
    seed_everything(run.seed)
    model, data = MNISTClassifier(**run.model), MNISTDataModule(**run.data)
    names = "logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"
    off: dict[str, Any] = dict.fromkeys(names, False)
    trainer = Trainer(max_epochs=run.epochs, callbacks=StepsPerExecution(), **off)
    trainer.fit(model, data)
    run.lap("training")
    (metrics,) = trainer.test(model, data, verbose=False)
    return metrics["test_acc"]


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
    classifier = MLPClassifier(model["hidden_sizes"], activation, solver="sgd", max_iter=1, warm_start=True)
    random = np.random.RandomState(run.seed)  # a number would shuffle each epoch alike
    classifier.set_params(alpha=model["weight_decay"], batch_size=batch_size, random_state=random)
    classifier.set_params(momentum=model["momentum"], nesterovs_momentum=model["nesterov"])
    for rate in rates:
        classifier.set_params(learning_rate_init=rate).fit(images, labels)
        run.lap("training")
    return float(classifier.score(test_images, test_labels))


def jax(run: Run) -> float:
    """Train with JAX, without weight decay: an epoch, without its last, smaller batch, is one compiled ``lax.scan``."""
    import jax
    import numpy as np
    from jax import numpy as jnp

    run.lap("imports")
    random = np.random.default_rng(run.seed)
    momentum, batch_size = run.model["momentum"], run.data["batch_size"]
    activate = getattr(jax.nn, run.model["activation"], lambda images: images)  # no identity in older releases

    def draw(inputs: int, *shape: int) -> Any:
        return jnp.asarray(random.uniform(-1, 1, shape) / inputs**0.5, jnp.float32)  # as torch draws them

    def learning_rates(steps: int) -> Any:  # of each step, as in torch's OneCycleLR, or constant
        highest = run.model["lr"]
        step, rise = np.arange(steps), 0.3 * steps - 1
        low = highest if run.model["schedule"] == "constant" else np.where(step <= rise, highest / 25, highest / 25e4)
        half_waves = np.interp(step, [0, rise, steps - 1], [0, 1, 2])
        return (low + (highest - low) / 2 * (1 - np.cos(np.pi * half_waves))).astype(np.float32)

    def logits(parameters: Any, images: Any) -> Any:
        *hidden, (last_weight, last_bias) = parameters
        for weight, bias in hidden:
            images = activate(images @ weight + bias)
        return images @ last_weight + last_bias

    def loss(parameters: Any, images: Any, labels: Any) -> Any:
        return -jax.nn.log_softmax(logits(parameters, images))[jnp.arange(len(labels)), labels].mean()

    # Closed over, the images would be compiled in, which takes a second.
    def train_epoch(state: Any, images: Any, labels: Any, batches: Any) -> Any:
        def step(state: Any, batch: Any) -> Any:
            parameters, momenta = state
            indices, rate = batch
            steps = jax.grad(loss)(parameters, images[indices].astype(jnp.float32) / 255, labels[indices])
            if momentum:
                momenta = jax.tree.map(lambda m, s: momentum * m + s, momenta, steps)
                steps = jax.tree.map(lambda m, s: s + momentum * m, momenta, steps)  # Nesterov's
            return (jax.tree.map(lambda p, s: p - rate * s, parameters, steps), momenta), None

        return jax.lax.scan(step, state, batches)[0]

    compiled = jax.jit(train_epoch)
    images, labels, test_images, test_labels = map(jnp.asarray, run.read_mnist())
    run.lap("data")
    layers = pairwise((784, *run.model["hidden_sizes"], 10))
    parameters = [(draw(inputs, inputs, outputs), draw(inputs, outputs)) for inputs, outputs in layers]
    state = parameters, jax.tree.map(jnp.zeros_like, parameters)
    steps = len(labels) // batch_size
    for rates in learning_rates(run.epochs * steps).reshape(run.epochs, steps):
        order = random.permutation(len(labels))[: steps * batch_size].reshape(steps, -1)
        state = compiled(state, images, labels, (order, rates))
        state[0][0][0].block_until_ready()
        run.lap("training")
    return float((logits(state[0], test_images / 255).argmax(axis=1) == test_labels).mean())


if __name__ == "__main__":
    contestants = {each.__name__: each for each in (article, pytorch, mnist_lit, sklearn, jax)}
    name, given = sys.argv[1:]
    run = Run(**json.loads(given))
    accuracy = contestants[name](run)
    run.lap("test")
    seconds = {phase: sum(run.laps[phase]) for phase in PHASES}
    Path(RESULT).write_text(json.dumps({**seconds, "epochs": run.laps["training"], "accuracy": accuracy}))
