"""Measure seconds to a network that is 98 % right: whole processes, from their start to their end.

    python benchmarks/time_to_98.py                        # every contestant, five times in turn, seeds 0 to 4
    python benchmarks/time_to_98.py --only mnist_lit jax   # these alone
    python benchmarks/time_to_98.py --markdown table.md    # the table in a file, too

Every contestant trains 784-128-64-10 with ReLU by SGD on the 60,000 training images of MNIST and counts its hits on the
10,000 test images, on the CPU, those with PyTorch on one thread. PyTorch and JAX take the recipe of configs/fast.yaml
(JAX without the last, smaller batch of an epoch); scikit-learn, which has no one-cycle, a learning rate for each epoch,
the best of five such lists on the validation images, and momentum that starts anew with each. mnist_lit reads its
images within training and test, the others before. scikit-learn and JAX take part where they are installed: ``pip
install -e '.[bench]'``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from throughput import DATA, ENVIRONMENT, ROOT, machine, present, read_idx

PHASES = ("imports", "data", "training", "test")
FAST = ROOT / "configs" / "fast.yaml"

phases = dict.fromkeys(PHASES, 0.0)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Count the time of a block as that of a phase."""
    start = time.perf_counter()
    yield
    phases[name] += time.perf_counter() - start


def fast_recipe() -> dict[str, Any]:
    """Return the recipe of configs/fast.yaml."""
    import yaml

    recipe: dict[str, Any] = yaml.safe_load(FAST.read_text())
    if recipe["model"].keys() != {"lr", "weight_decay"} or recipe["model"]["weight_decay"] != 0:
        raise ValueError(f"the loops of this program know a learning rate alone, and {FAST} sets {recipe['model']}")
    return recipe


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Return the learning rate of a step as torch's OneCycleLR has it: from 1/25 of the highest up, and down to 0."""
    import math

    def anneal(start: float, end: float, fraction: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * fraction))

    rise = 0.3 * steps - 1
    if step <= rise:
        return anneal(highest / 25, highest, step / rise)
    return anneal(highest, highest / 25e4, (step - rise) / (steps - 1 - rise))


def mnist_lit(seed: int) -> float:
    """Train and test as one does from Python: nothing shown, nothing kept."""
    with phase("imports"):
        import torch
        from lightning.pytorch import Trainer, seed_everything

        from mnist_lit import MNISTClassifier, MNISTDataModule
    recipe = fast_recipe()
    torch.set_num_threads(1)
    seed_everything(seed)
    with phase("training"):
        model = MNISTClassifier(**recipe["model"])
        data = MNISTDataModule(DATA, **recipe["data"])
        trainer = Trainer(
            **recipe["trainer"],
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, data)
    with phase("test"):
        (metrics,) = trainer.test(model, data, verbose=False)
    return metrics["test_acc"]


def pytorch(seed: int) -> float:
    """Train in a plain PyTorch loop over tensors in memory."""
    with phase("imports"):
        import torch
        import torch._dynamo  # torch.optim imports it when the first optimiser is made
        from torch import nn
        from torch.nn.functional import cross_entropy
    recipe = fast_recipe()
    epochs, batch_size = recipe["trainer"]["max_epochs"], recipe["data"]["batch_size"]
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    with phase("data"):
        images, labels = map(torch.from_numpy, read_idx("train"))
        test_images, test_labels = map(torch.from_numpy, read_idx("t10k"))
    with phase("training"):
        network = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.SGD(network.parameters(), recipe["model"]["lr"], 0.9, nesterov=True, fused=True)
        steps = epochs * -(-len(labels) // batch_size)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe["model"]["lr"], total_steps=steps, cycle_momentum=False
        )
        for _ in range(epochs):
            for indices in torch.randperm(len(labels)).split(batch_size):
                batch = images.index_select(0, indices).div(255)
                loss = cross_entropy(network(batch), labels.index_select(0, indices))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
    with phase("test"), torch.no_grad():
        return float((network(test_images.div(255)).argmax(dim=1) == test_labels).float().mean())


def jax(seed: int) -> float:
    """Train with JAX: all epochs are one compiled ``lax.scan``."""
    with phase("imports"):
        import jax
        import jax_mlp
        import numpy as np
        from jax import numpy as jnp
    recipe = fast_recipe()
    epochs, batch_size = recipe["trainer"]["max_epochs"], recipe["data"]["batch_size"]
    random = np.random.default_rng(seed)
    with phase("data"):
        images, labels = map(jnp.asarray, read_idx("train"))
        test_images, test_labels = map(jnp.asarray, read_idx("t10k"))
    with phase("training"):
        whole = len(labels) // batch_size * batch_size  # all steps of a scan have the same shape
        order = np.concatenate([random.permutation(len(labels))[:whole] for _ in range(epochs)])
        order = order.reshape(-1, batch_size)
        rates = [learning_rate(step, len(order), recipe["model"]["lr"]) for step in range(len(order))]

        # Closed over, the images would be compiled in, which takes a second.
        def train(state: Any, images: Any, labels: Any, batches: Any) -> Any:
            def step(state: Any, batch: Any) -> Any:
                parameters, momenta = state
                indices, rate = batch
                pixels = images[indices].astype(jnp.float32) / 255
                gradients = jax.grad(jax_mlp.loss)(parameters, pixels, labels[indices], relu=True)
                momenta = jax.tree.map(lambda m, g: 0.9 * m + g, momenta, gradients)
                parameters = jax.tree.map(lambda p, m, g: p - rate * (g + 0.9 * m), parameters, momenta, gradients)
                return (parameters, momenta), None

            return jax.lax.scan(step, state, batches)

        parameters = jax_mlp.init(random)
        momenta = jax.tree.map(jnp.zeros_like, parameters)
        batches = jnp.asarray(order), jnp.asarray(rates, jnp.float32)
        (parameters, _), _ = jax.jit(train)((parameters, momenta), images, labels, batches)
        parameters[0][0].block_until_ready()
    with phase("test"):
        digits = jax_mlp.logits(parameters, test_images / 255, relu=True).argmax(axis=1)
        return float((digits == test_labels).mean())


def scikit_learn(seed: int) -> float:
    """Train scikit-learn's MLPClassifier."""
    with phase("imports"):
        import numpy as np
        from sklearn.neural_network import MLPClassifier
    with phase("data"):
        images, labels = read_idx("train")
        test_images, test_labels = read_idx("t10k")
        images, test_images = images / np.float32(255), test_images / np.float32(255)
    with phase("training"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each epoch is a fit that has not converged
        random = np.random.RandomState(seed)  # a number would shuffle each epoch alike
        classifier = MLPClassifier(
            (128, 64), solver="sgd", batch_size=128, alpha=0, max_iter=1, warm_start=True, random_state=random
        )
        for rate in 0.1, 0.15, 0.1, 0.05, 0.02, 0.005:
            classifier.set_params(learning_rate_init=rate).fit(images, labels)
    with phase("test"):
        return float(classifier.score(test_images, test_labels))


CONTESTANTS: dict[str, tuple[str, Callable[[int], float]]] = {
    "mnist_lit": ("**`mnist_lit`** in Python, `configs/fast.yaml`", mnist_lit),
    "pytorch": ("plain PyTorch loop, the same recipe", pytorch),
    "jax": ("JAX, one compiled `lax.scan`, the same recipe", jax),
    "sklearn": ("scikit-learn's `MLPClassifier`", scikit_learn),
}


def run(contestant: str, seed: int) -> dict[str, float]:
    """Run a contestant in a process of its own and return its seconds and its accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "seconds.json")
        command = [sys.executable, __file__, "--contestant", contestant, "--seed", str(seed), "--output", str(output)]
        start = time.perf_counter()
        process = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            sys.exit(f"{contestant} failed:\n{process.stderr}")
        result: dict[str, float] = json.loads(output.read_text())
    return {"whole": seconds, **result}


def table(contestants: list[str], repeats: int) -> Iterator[str]:
    """Measure the contestants in turn and yield the lines of their table."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for seed in range(repeats):
        for name in contestants:
            print(f"\rround {seed + 1} of {repeats}: {name:<12}", end="", file=sys.stderr, flush=True)
            results[name].append(run(name, seed))
    print(file=sys.stderr)
    columns = ("whole", *PHASES)
    medians = {
        name: [statistics.median(result[column] for result in runs) for column in columns]
        for name, runs in results.items()
    }
    yield "| seconds | whole process | imports | data | training | test | accuracy, % | least |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in sorted(contestants, key=lambda name: medians[name]):
        accuracies = [100 * result["accuracy"] for result in results[name]]
        seconds = " | ".join(f"{value:.1f}" for value in medians[name])
        yield f"| {CONTESTANTS[name][0]} | {seconds} | {statistics.mean(accuracies):.2f} | {min(accuracies):.2f} |"


def main() -> None:
    """Measure and print the table; or, with ``--contestant``, be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="NAME", help=" ".join(CONTESTANTS))
    parser.add_argument("--repeats", type=int, default=5, help="processes of each contestant, with seeds 0, 1, ...")
    parser.add_argument("--markdown", type=Path, help="file to write the table to")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    if arguments.contestant:
        accuracy = CONTESTANTS[arguments.contestant][1](arguments.seed)
        arguments.output.write_text(json.dumps({**phases, "accuracy": accuracy}))
        return

    from mnist_lit import MNISTDataModule

    MNISTDataModule(DATA).prepare_data()
    contestants = arguments.only or present(CONTESTANTS)
    text = "\n".join([*table(contestants, arguments.repeats), "", machine()]) + "\n"
    print(text, end="")
    if arguments.markdown:
        arguments.markdown.write_text(text)


if __name__ == "__main__":
    main()
