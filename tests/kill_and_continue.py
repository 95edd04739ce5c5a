"""Kill runs at random moments, resume them, and check that they end as if nothing had happened.

    python tests/kill_and_continue.py --kills 100

Each run is of one of several kinds: of the command line, with averaged weights or rare validation for example, or of
Python, with a CNN, dropout and torch's DataLoader. SIGKILL, which a process cannot handle, kills it, and it is resumed
from its last checkpoint until it ends. One kind is tested before each resumption. At the end its checkpoints and curves
are compared with those of a run of its kind that never stopped.
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
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import torch
from conftest import assert_same_run
from lightning.pytorch import seed_everything
from own import OwnCNN, Schedule, own_loaders

from mnist_lit import RunCheckpoint, make_trainer
from mnist_lit.__main__ import main as mnist_lit
from mnist_lit.checkpoints import find_checkpoint, load_whole
from mnist_lit.errors import UserError

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns about each point that a resumed run replaces
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
    ("--data.val_size=0", "--trainer.max_steps=250", "--trainer.max_epochs=-1", "--trainer.precision=64-true"),
]
"""Options of the kinds of run on the command line."""
TESTED = ("--data.augment.rotation=10", "--trainer.log_every_n_steps=15")
"""The kind that is tested each time before it is resumed."""
OWN = [("CNN",), ("CNN", "2 workers"), ("CNN", "one cycle"), ("CNN", "plateau"), ("CNN", "2 processes")]
"""The kinds of run in Python."""


def fit_own(root: Path, data_dir: Path, kind: Sequence[str], checkpoint: Path | None) -> None:
    """Train a network of one's own, in Python."""
    seed_everything(0, verbose=False)  # DistributedSampler's order follows from this number
    if checkpoint:
        torch.manual_seed(99)
    options: dict[str, Any] = {"max_epochs": 3, "default_root_dir": root, "log_every_n_steps": 5}
    if "2 processes" in kind:
        options |= {"accelerator": "cpu", "strategy": "ddp_fork", "devices": 2}
    schedule: Schedule = "one cycle" if "one cycle" in kind else "plateau" if "plateau" in kind else "none"
    loaders = own_loaders(data_dir, workers=2 * ("2 workers" in kind))
    trainer = make_trainer(callbacks=[RunCheckpoint("val/acc")], **options)
    trainer.fit(OwnCNN(schedule), *loaders, ckpt_path=checkpoint)


def fit(root: Path, data_dir: Path, options: Sequence[str], checkpoint: Path | None) -> None:
    """Train, from ``checkpoint`` if it is given, in the process that will be killed, with all that it starts."""
    os.setpgrp()
    with Path(root, "output.txt").open("a") as output, redirect_stdout(output), redirect_stderr(output):
        if tuple(options) in OWN:
            fit_own(root, data_dir, options, checkpoint)
            return
        commands = [["fit", *OPTIONS, *options, f"--trainer.default_root_dir={root}"]]
        if tuple(options) == TESTED and checkpoint:
            commands.insert(0, ["test"])
        for command in commands:
            from_checkpoint = [f"--ckpt_path={checkpoint}"] if checkpoint else []
            sys.argv = ["mnist_lit", *command, f"--data.data_dir={data_dir}", *from_checkpoint]
            mnist_lit()


def run(root: Path, data_dir: Path, options: Sequence[str], moments: list[float]) -> Counter[str]:
    """Train in ``root``, killed after each of ``moments``, in seconds, and return the counts of what happened."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mnist_lit.cli"])  # a run starts in one second instead of ten
    counts: Counter[str] = Counter()
    root.mkdir(parents=True)
    for moment in [*moments, None]:
        checkpoint = None
        with suppress(UserError):  # killed before the end of the first epoch
            checkpoint = find_checkpoint("last", str(root))
        counts["resumptions"] += checkpoint is not None
        process = context.Process(target=fit, args=(root, data_dir, options, checkpoint))
        process.start()
        process.join(moment)
        if process.exitcode is not None:
            break
        with suppress(ProcessLookupError):  # killed before it had a group
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join()
        counts["kills"] += 1
        # TensorBoard reads a run's files in the order of their names: by the second, then by the process's id as
        # text, with 10000 before 9999. So each process starts in another second, as if started by hand.
        time.sleep(1 - time.time() % 1)
        for path in root.glob("lightning_logs/*/checkpoints/*.ckpt"):
            try:
                load_whole(path)
            except ValueError:
                counts["damaged checkpoints"] += 1
    return counts


def main() -> None:
    """Run, kill, resume, compare and print a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="fewest kills in all")
    least = parser.parse_args().kills

    data_dir = Path("data").absolute()
    kinds, seconds, total = [*KINDS, TESTED, *OWN], dict[int, float](), Counter[str]()
    names = "kills", "resumptions", "damaged checkpoints", "runs that ended otherwise"
    print(f"| run | {' | '.join(names)} |\n{'|---' * 5}|")
    with tempfile.TemporaryDirectory() as folder:
        number = 0
        while total["kills"] < least:
            kind, draw = number % len(kinds), random.Random(number)
            root, reference = Path(folder, f"run_{number}"), Path(folder, f"reference_{kind}")
            if kind not in seconds:
                start = time.perf_counter()
                run(reference, data_dir, kinds[kind], [])
                seconds[kind] = time.perf_counter() - start
            counts = run(root, data_dir, kinds[kind], [draw.uniform(0, seconds[kind]) for _ in range(8)])
            last = root.glob("lightning_logs/version_*/checkpoints/last.ckpt")  # of the last start from the beginning
            newest = max(last, key=lambda path: path.stat().st_mtime).parent.parent
            difference = ""
            try:
                assert_same_run(reference / "lightning_logs" / "version_0", newest)
            except AssertionError as error:
                difference, counts["runs that ended otherwise"] = f" differs: {error}", 1
            print(f"| {number} | {' | '.join(str(counts[name]) for name in names)} |{difference}", flush=True)
            total += counts
            number += 1
    print(f"| all | {' | '.join(str(total[name]) for name in names)} |")
    sys.exit(1 if total["runs that ended otherwise"] or total["damaged checkpoints"] else 0)


if __name__ == "__main__":
    main()
