"""Try changes of configs/best.yaml on the validation images.

    python benchmarks/search.py                                   # those of configs/best.md
    python benchmarks/search.py "lr=0.2" "rotation=15 scale=0.2"  # these two

Each row is trained from several initial weights at once, on the same batches, in a plain loop: the seeds of a row share
its order and distortions, so that an epoch costs little more than one of a single network. 10,000 training images are
held out in place of 5,000: what is to be told apart is a few images.
"""

import argparse
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from mnist_lit import MLP, MNISTDataModule
from mnist_lit.augment import RandomDistortion
from mnist_lit.datamodule import ShuffledBatches
from mnist_lit.network import Activation

DATA = Path(__file__).parent.parent / "data"
CHANGES = [
    "",
    *("activation=relu", "activation=gelu", "activation=leaky_relu", "activation=tanh"),
    *("lr=0.05", "lr=0.2", "momentum=0.8", "momentum=0.95", "batch_size=50", "batch_size=200 lr=0.2"),
    *("weight_decay=0", "weight_decay=1e-5", "weight_decay=2e-4", "label_smoothing=0.05"),
    *("elastic=0", "rotation=0 shift=0 scale=0 shear=0", "elastic=0 rotation=0 shift=0 scale=0 shear=0"),
    *("elastic=0.5 rotation=7.5 shift=1", "elastic=0.6 rotation=15 scale=0.15 shear=0.15"),
    *("elastic=0.8 rotation=15 scale=0.15 shear=0.15", "elastic=1.2 scale=0.15 shear=0.15"),
    *("elastic_sigma=3", "elastic=1 elastic_sigma=5"),
]


@dataclass(frozen=True)
class Recipe:
    """What can be changed, as in configs/best.yaml."""

    activation: Activation = "silu"
    batch_size: int = 100
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-5
    label_smoothing: float = 0.0
    rotation: float = 10.0
    shift: float = 1.5
    scale: float = 0.1
    shear: float = 0.1
    elastic: float = 0.8
    elastic_sigma: float = 4.0

    def changed(self, change: str) -> "Recipe":
        """Return the recipe after a change like ``lr=0.2 batch_size=200``."""
        values = dict(item.split("=") for item in change.split())
        return replace(self, **{name: type(getattr(self, name))(value) for name, value in values.items()})


def validate(recipe: Recipe, epochs: int, networks: int) -> tuple[list[float], list[float], list[float]]:
    """Return the accuracies in percent and the losses on the validation images, and the averages' accuracies.

    The averages are exponential ones of the weights, over some 1,000 steps.
    """
    data = MNISTDataModule(DATA, recipe.batch_size, val_size=10_000, seed=0)
    data.prepare_data()
    data.setup("fit")
    batches = data.train_dataloader()
    assert isinstance(batches, ShuffledBatches)
    images, labels = (torch.cat(parts) for parts in zip(*data.val_dataloader(), strict=True))
    distort = RandomDistortion(
        recipe.rotation, recipe.shift, recipe.scale, recipe.shear, recipe.elastic, recipe.elastic_sigma
    )
    torch.manual_seed(0)
    models = [MLP(activation=recipe.activation) for _ in range(networks)]
    weights, _ = stack_module_state(models)
    averages = {name: weight.detach().clone() for name, weight in weights.items()}

    def forward(weights: dict[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(models[0], weights, (images,))
        return logits

    forward_all = vmap(forward, in_dims=(0, None))
    optimizer = torch.optim.SGD(
        weights.values(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True, fused=True
    )
    schedule = OneCycleLR(optimizer, recipe.lr, epochs * len(batches), cycle_momentum=False)
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        generator = torch.Generator().manual_seed(epoch)
        for step, (batch, digits) in enumerate(batches):
            logits = forward_all(weights, distort(batch, generator)).flatten(0, 1)
            loss = F.cross_entropy(logits, digits.repeat(networks), label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            (loss * networks).backward()
            optimizer.step()
            schedule.step()
            if step % 10 == 0:
                for name, weight in weights.items():
                    averages[name].lerp_(weight.detach(), 0.01)

    def accuracies(logits: Tensor) -> list[float]:
        return [100 * value for value in (logits.argmax(2) == labels).float().mean(1).tolist()]

    with torch.no_grad():
        logits, averaged = forward_all(weights, images), forward_all(averages, images)
    return accuracies(logits), [float(F.cross_entropy(each, labels)) for each in logits], accuracies(averaged)


def main() -> None:
    """Try the changes and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", nargs="*", default=CHANGES, help="each a list of NAME=VALUE; '' is none")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--networks", type=int, default=4, help="initial weights to start from")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    print(
        "| change | validation accuracy, % | loss | accuracy of averaged weights, % | seconds |\n|---|---|---|---|---|"
    )
    for change in arguments.changes:
        start = time.perf_counter()
        acc, loss, averaged = validate(Recipe().changed(change), arguments.epochs, arguments.networks)
        figures = f"{statistics.mean(acc):.2f} ± {statistics.stdev(acc):.2f} | {statistics.mean(loss):.4f}"
        figures += f" | {statistics.mean(averaged):.2f} | {time.perf_counter() - start:.0f}"
        print(f"| {change or 'none'} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
