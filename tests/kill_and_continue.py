"""Kill trainings at random moments, continue them, and check that they end as if nothing had happened.

    python tests/kill_and_continue.py --kills 100

Each run is of one of several kinds: of the command line, with averaged weights or rare validation for example, or of
Python, with a CNN, dropout and torch's DataLoader. SIGKILL, which a process cannot handle, kills it, and it continues
from the newer of its best and last checkpoints until it ends. One kind is tested before each continuation. At the end
its weights, both checkpoints and all curves are compared with those of a run of its kind that never stopped.
"""

import argparse
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from conftest import curves
from lightning.pytorch import Callback, Trainer, seed_everything
from own import OwnCNN, Schedule, own_loaders
from torch import Tensor
from torch.nn import functional as F

from mnist_lit import Classifier, MNISTClassifier, MNISTDataModule, RunCheckpoint, make_trainer
from mnist_lit.__main__ import main as mnist_lit
from mnist_lit.datamodule import Batch
from mnist_lit.files import load_whole

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns about each point that a continued run replaces
OPTIONS = ["--trainer.max_epochs=3", "--trainer.limit_train_batches=100", "--trainer.log_every_n_steps=20"]
KINDS = [
    (
        *("--data.augment.rotation=10", "--data.augment.elastic=1"),
        *("--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.9"),
    ),
    ("--trainer.val_check_interval=10", "--trainer.accumulate_grad_batches=5"),
    ("--trainer.val_check_interval=12", "--trainer.check_val_every_n_epoch=null"),
    ("--trainer.check_val_every_n_epoch=2",),
    ("--trainer.max_steps=250", "--trainer.max_epochs=-1"),
    ("--trainer.max_steps=300", "--trainer.max_epochs=-1", "--trainer.check_val_every_n_epoch=2"),
    ("--trainer.max_steps=250", "--trainer.max_epochs=-1", "--trainer.val_check_interval=0.34"),
    ("--trainer.callbacks+=GradientAccumulationScheduler", "--trainer.callbacks.scheduling={0: 3}"),
    ("--data.val_size=0", "--data.batch_size=64"),
    ("--data.val_size=0", "--trainer.max_steps=250", "--trainer.max_epochs=-1"),
]
"""Options of the kinds of run on the command line."""
TESTED = ("--data.augment.rotation=10", "--trainer.log_every_n_steps=15")
"""The kind that is tested each time before it is continued."""
OWN = [("CNN",), ("CNN", "2 workers"), ("CNN", "one cycle"), ("CNN", "plateau"), ("dropout",), ("CNN", "2 processes")]
"""The kinds of run in Python."""


class Dropout(MNISTClassifier):
    """Our own network, with dropout."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(F.dropout(images, 0.2, self.training))


class Counts(Callback):
    """Counts the steps."""

    def __init__(self, step: "Synchronized[int]") -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.is_global_zero:
            self.step.value = trainer.global_step


def fit_own(
    root: Path, data_dir: Path, kind: Sequence[str], step: "Synchronized[int]", checkpoint: Path | None
) -> None:
    """Train a network of one's own, in Python."""
    seed_everything(0, verbose=False)  # DistributedSampler's order follows from this number
    if checkpoint:
        torch.manual_seed(99)
    options: dict[str, Any] = {"max_epochs": 3, "default_root_dir": root, "log_every_n_steps": 5}
    if "2 processes" in kind:
        options |= {"accelerator": "cpu", "strategy": "ddp_fork", "devices": 2}
    if kind[0] == "dropout":
        data = MNISTDataModule(data_dir, batch_size=500)
        make_trainer(callbacks=[Counts(step)], **options).fit(Dropout(schedule="constant"), data, ckpt_path=checkpoint)
        return
    schedule: Schedule = "one cycle" if "one cycle" in kind else "plateau" if "plateau" in kind else "none"
    loaders = own_loaders(data_dir, workers=2 * ("2 workers" in kind))
    trainer = make_trainer(callbacks=[RunCheckpoint("val/acc"), Counts(step)], **options)
    trainer.fit(OwnCNN(schedule), *loaders, ckpt_path=checkpoint)


def fit(root: Path, data_dir: Path, options: Sequence[str], step: "Synchronized[int]", checkpoint: Path | None) -> None:
    """Train, from ``checkpoint`` if it is given, in the process that will be killed, with all that it starts."""
    os.setpgrp()
    if tuple(options) in OWN:
        with Path(root, "output.txt").open("a") as output:
            sys.stdout = sys.stderr = output
            fit_own(root, data_dir, options, step, checkpoint)
        return
    training_step = Classifier.training_step
    counted = made = 0

    def count_step(self: Classifier, batch: Batch, batch_idx: int) -> Tensor:
        # Lightning's count of steps does not change within a round.
        nonlocal counted, made
        if self.trainer.global_step != counted:
            counted, made = self.trainer.global_step, 0
        step.value = counted + made
        made += self.trainer.accumulate_grad_batches == 1
        return training_step(self, batch, batch_idx)

    command = ["fit", *OPTIONS, *options, f"--trainer.default_root_dir={root}", f"--data.data_dir={data_dir}"]
    # Not a subclass: the command makes the model itself.
    replaced = patch.object(Classifier, "training_step", count_step)
    with Path(root, "output.txt").open("a") as output, replaced:
        sys.stdout = sys.stderr = output
        if tuple(options) == TESTED and checkpoint:
            sys.argv = ["mnist_lit", "test", f"--ckpt_path={checkpoint}", f"--data.data_dir={data_dir}"]
            mnist_lit()
        sys.argv = ["mnist_lit", *command, *([f"--ckpt_path={checkpoint}"] if checkpoint else [])]
        mnist_lit()


@dataclass
class Result:
    """The counts and differences of a run, or of all."""

    kills: int = 0
    continuations: int = 0
    oldest: int = 0
    damaged: int = 0
    different: list[str] = field(default_factory=list)


def differences(run: Path, other: Path) -> list[str]:
    """Return the differences between two runs: checkpoints with other weights, and curves."""
    names = []
    for path in other.glob("checkpoints/*.ckpt"):
        one, two = load_whole(run / "checkpoints" / path.name), load_whole(path)
        for weights in {"state_dict", "current_model_state"} & two.keys():
            if not all(torch.equal(tensor, two[weights][key]) for key, tensor in one[weights].items()):
                names.append(f"{path.name}'s {weights}")
    ours, others = curves(run), curves(other)
    return names + sorted(tag for tag in ours.keys() | others.keys() if ours.get(tag) != others.get(tag))


class Killer:
    """Starts trainings in new processes and kills them."""

    def __init__(self, data_dir: Path) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["mnist_lit.cli"])  # a training starts in one second instead of ten
        self.data_dir = data_dir

    def run(
        self,
        root: Path,
        options: Sequence[str],
        kills: int,
        random_: random.Random,
        longest: float = 0.2,
        steps: range = range(1),
    ) -> Result:
        """Train in ``root`` with up to ``kills`` kills, each up to ``longest`` seconds after one of ``steps``."""
        result = Result()
        root.mkdir(parents=True)
        step = self.context.Value("i", 0)
        while True:
            checkpoints = sorted(root.glob("lightning_logs/*/checkpoints/*.ckpt"))
            checkpoint = max(checkpoints, key=_steps, default=None)
            result.continuations += checkpoint is not None
            process = self.context.Process(target=fit, args=(root, self.data_dir, options, step, checkpoint))
            step.value = 0
            process.start()
            if result.kills < kills:
                target = random_.choice(steps) + (_steps(checkpoint) if checkpoint else 0)
                while process.is_alive() and step.value < target:
                    time.sleep(0.001)
            process.join(random_.uniform(0, longest) if result.kills < kills else None)
            if process.exitcode is not None:
                break
            with suppress(ProcessLookupError):  # killed before it had a group
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.kill()
            process.join()
            result.kills += 1
            # TensorBoard reads a run's files in the order of their names: by the second, then by the process's id as
            # text, with 10000 before 9999. So each process starts in another second, as if started by hand.
            time.sleep(1 - time.time() % 1)
            for path in root.glob("lightning_logs/*/checkpoints/*.ckpt"):
                try:
                    content = load_whole(path)
                except ValueError:
                    result.damaged += 1
                    continue
                if path.name == "last.ckpt":
                    result.oldest = max(result.oldest, step.value - content["global_step"])
        return result


def _steps(checkpoint: Path) -> int:
    steps: int = load_whole(checkpoint)["global_step"]
    return steps


def main() -> None:
    """Run, kill, continue, compare and print a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="fewest kills in all")
    parser.add_argument("--kills_per_run", type=int, default=8, help="most kills of one run")
    parser.add_argument("--data_dir", type=Path, default=Path("data"))
    arguments = parser.parse_args()

    killer = Killer(arguments.data_dir.absolute())
    total, start = Result(), time.perf_counter()
    print(
        "| run | kills | continuations | most steps lost | damaged checkpoints | as if never stopped |\n"
        + "|---" * 6
        + "|"
    )
    with tempfile.TemporaryDirectory() as folder:
        number = 0
        while total.kills < arguments.kills:
            kinds = [*KINDS, TESTED, *OWN]
            root, options = Path(folder, f"run_{number}"), kinds[number % len(kinds)]
            reference = Path(folder, f"reference_{number % len(kinds)}")
            if not reference.exists():
                killer.run(reference, options, 0, random.Random())
            steps = range(20 if options[0] == "CNN" else 170)  # an epoch has 12, 100 or 110
            result = killer.run(root, options, arguments.kills_per_run, random.Random(number), steps=steps)
            last = root.glob("lightning_logs/version_*/checkpoints/last.ckpt")  # of the last start from the beginning
            run = max(last, key=lambda path: path.stat().st_mtime).parent.parent
            result.different = differences(run, reference / "lightning_logs" / "version_0")
            print(f"| {number} | {_row(result)}", flush=True)
            total.kills += result.kills
            total.continuations += result.continuations
            total.oldest = max(total.oldest, result.oldest)
            total.damaged += result.damaged
            total.different += result.different
            number += 1
    print(f"| all, {time.perf_counter() - start:.0f} s | {_row(total)}")
    sys.exit(1 if total.different or total.damaged else 0)


def _row(result: Result) -> str:
    equal = f"NO: {', '.join(result.different)}" if result.different else "yes"
    return f"{result.kills} | {result.continuations} | {result.oldest} | {result.damaged} | {equal} |"


if __name__ == "__main__":
    main()
