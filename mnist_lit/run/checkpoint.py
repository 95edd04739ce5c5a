"""The checkpoints of a run, with the random states that it continues with."""

import random
from os.path import relpath
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities import CombinedLoader, rank_zero_warn
from torch import Tensor
from typing_extensions import override

from mnist_lit.checkpoint_io import AtomicCheckpointIO, to_bytes
from mnist_lit.errors import UserError
from mnist_lit.files import UNFINISHED
from mnist_lit.run.folder import folder_of, make_run_dir, run_dir_of


class RunCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` after each epoch, and ``best.ckpt`` after an epoch with a better score than all before.

    A run that is resumed from either file ends as if it had never stopped, in any Trainer, with any LightningModule and
    torch's DataLoader. The files are saved between two epochs only, with all random states; ModelCheckpoint saves none,
    and an epoch before ReduceLROnPlateau has had its metrics. A run that ends within an epoch, by ``max_steps`` for
    example, leaves a ``last.ckpt`` that can only be tested.

    Args:
        monitor: Metric that decides which epoch is best; without validation it may be one of training.
        mode: Whether ``max`` or ``min`` of the metric is best; ``auto`` is ``min`` for a loss, else ``max``.

    Attributes:
        run_dir: The folder that has ``checkpoints/``: the run's or the logger's; None if nothing is kept.
        best_model_score: The metric of ``best.ckpt``.

    Raises:
        UserError: If ``mode`` is another word. In ``fit``, if a run cannot be resumed from its checkpoint, or would
            replace another run's; if an epoch ends with infinite or NaN weights: the previous checkpoints stay.
    """

    def __init__(self, monitor: str = "val_acc", mode: Literal["max", "min", "auto"] = "auto") -> None:
        if mode not in ("max", "min", "auto"):
            raise UserError(f"mode must be max, min or auto, got {mode!r}")
        self.monitor = monitor
        self.is_min = mode == "min" or (mode == "auto" and "loss" in monitor.lower())
        self.run_dir: Path | None = None
        self.best_model_score: Tensor | None = None
        self._module: LightningModule | None = None  # whose checkpoints are in run_dir
        self._resumed: dict[str, Any] | None = None  # state in the checkpoint that the run continues from
        self._saving: dict[str, Any] = {}  # additional state, while an epoch is saved
        self._has_trained = False  # whether an epoch has ended that is not saved yet
        self._validated_step = -1  # of the last validation in this epoch

    @property
    def best_model_path(self) -> str:
        """Path of ``best.ckpt``, or of ``last.ckpt`` if there was no validation; empty if neither exists."""
        return self._path("best.ckpt") or self.last_model_path

    @best_model_path.setter
    def best_model_path(self, path: str) -> None:
        self.run_dir = Path(path).parent.parent if path else None  # by a strategy that trains in other processes

    @property
    def last_model_path(self) -> str:
        """Path of ``last.ckpt``; empty if it does not exist."""
        return self._path("last.ckpt")

    def _path(self, name: str) -> str:
        return str(next(self.run_dir.glob(f"checkpoints/{name}"), "")) if self.run_dir else ""

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            if trainer.precision == "64-true":
                pl_module.double()  # Lightning does so once it has loaded weights, and would round them
            if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # not if the user chose another
                trainer.strategy.checkpoint_io = AtomicCheckpointIO()
            # It becomes the first callback: on_train_epoch_start is then between two epochs for all others.
            callbacks: list[Any] = getattr(trainer, "callbacks", [])
            callbacks[:] = [self, *(each for each in callbacks if each is not self)]
            self._resumed, self._has_trained, self._validated_step, self._saving = None, False, -1, {}

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
        if trainer.state.fn != "fit" or not batches:  # 0: saved by Lightning's finders, in this fit
            return  # nor does a test or validation of a checkpoint resume a run
        self._resumed = checkpoint["callbacks"].get(self.state_key, {})
        if "is_between_epochs" not in self._resumed:
            rank_zero_warn(f"{trainer.ckpt_path} was not saved by RunCheckpoint: the run may not continue exactly")
        elif not self._resumed["is_between_epochs"]:
            raise UserError(f"{trainer.ckpt_path} was saved within an epoch: it can be tested, but not continued")

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        continued, is_known = Path(trainer.ckpt_path or "").absolute(), self._module is pl_module
        if getattr(trainer, "fast_dev_run", False):
            self.run_dir = None
            return
        if trainer.is_global_zero:
            self.run_dir = (
                getattr(trainer, "run_dir", None)  # of a RunTrainer
                or (run_dir_of(continued) if self._resumed else self.run_dir if is_known else None)
                or folder_of(trainer.logger)
                or make_run_dir(Path(trainer.default_root_dir))
            )
        self.run_dir = run_dir = Path(trainer.strategy.broadcast(self.run_dir) or "")
        if continued.parent.resolve() == (run_dir / "checkpoints").resolve():
            for path in continued.parent.glob(UNFINISHED):  # a killed process of this run left it
                path.unlink(missing_ok=True)
        elif not is_known and any(run_dir.glob("checkpoints/*.ckpt")):
            other = f"{relpath(run_dir)} holds the checkpoints of another run"
            raise UserError(f"{other}: resume it with ckpt_path, or give the logger another version")
        others = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
        beside = [each for each in others if each.dirpath == str(run_dir / "checkpoints")]  # by default
        if any(each.save_last == "link" or each.filename in ("best", "last") for each in beside):
            remedy = "give it a dirpath or another filename, and save_last=True in place of 'link'"
            raise UserError(f"a ModelCheckpoint would overwrite the run's best.ckpt or last.ckpt: {remedy}")
        if type(trainer.strategy.checkpoint_io) is AtomicCheckpointIO:  # which would refuse them after an epoch
            hparams = {**pl_module.hparams, **getattr(getattr(trainer, "datamodule", None), "hparams", {})}
            to_bytes(hparams, "a checkpoint with these hyperparameters")
        score = self.best_model_score if self._resumed is None else self._resumed.get("best_model_score")
        self.best_model_score = score if self._path("best.ckpt") else None

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed and "is_between_epochs" in resumed:
            begin_with_an_epoch(trainer)
            trainer.should_stop = resumed["should_stop"]  # before min_epochs, it is not obeyed yet
            trainer.callback_metrics.update(resumed["callback_metrics"])
            for parameter, requires_grad in zip(pl_module.parameters(), resumed.get("requires_grad", ()), strict=False):
                parameter.requires_grad_(requires_grad)
            for module, is_training in zip(pl_module.modules(), resumed.get("is_training", ()), strict=False):
                module.training = is_training
            _restore(trainer, resumed["random_states"])
        self._save_epoch(trainer, pl_module, trainer.should_stop)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated_step = -1 if trainer.sanity_checking else trainer.global_step

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._has_trained = True  # it is saved later, once schedulers and loggers have had its metrics

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_epoch(trainer, pl_module, should_stop=False)  # so that the run can be extended

    def _save_epoch(self, trainer: Trainer, pl_module: LightningModule, should_stop: bool) -> None:
        if not self._has_trained or self.run_dir is None:
            return
        _check_weights(trainer, pl_module)
        self._has_trained, self._module, is_whole = False, pl_module, trainer.is_last_batch
        self._saving = {
            "is_between_epochs": is_whole,
            "should_stop": should_stop,
            "callback_metrics": dict(trainer.callback_metrics),
            "requires_grad": [each.requires_grad for each in pl_module.parameters()],  # a callback may have frozen some
            "is_training": [each.training for each in pl_module.modules()],
            "random_states": _collect(trainer) if is_whole else [],
        }
        for name in ["best.ckpt", "last.ckpt"] if self._is_best(trainer) else ["last.ckpt"]:
            for logger in trainer.loggers:
                logger.save()  # the curves up to here, so that a kill loses no points
            trainer.save_checkpoint(self.run_dir / "checkpoints" / name, weights_only=False)  # else it prints a line
        self._saving = {}

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best_model_score": self.best_model_score, **self._saving}  # no paths: a folder can be moved

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        data = getattr(trainer, "datamodule", None)
        checkpoint["classes"] = {"model": type(pl_module).__qualname__, "datamodule": data and type(data).__qualname__}
        if self._saving:  # between two epochs
            checkpoint["epoch"] = trainer.current_epoch - 1  # the one that has ended, as in ModelCheckpoint's files
            for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
                counts["ready"] = counts["completed"]

    def _is_best(self, trainer: Trainer) -> bool:
        metrics, best, step = trainer.callback_metrics, self.best_model_score, self._validated_step
        score, self._validated_step = metrics.get(self.monitor), -1
        if sum(trainer.num_val_batches) and step != trainer.global_step:
            score = None  # of an earlier validation
        if score is None and step >= 0 and trainer.is_last_batch:
            problem = f"{self.monitor} is not logged after the last step of an epoch (logged: {', '.join(metrics)})"
            remedy = "choose RunCheckpoint(monitor=...), or a val_check_interval that ends with an epoch"
            rank_zero_warn(f"best.ckpt is not kept: {problem}: {remedy}")
        is_better = score is not None and (best is None or bool(score < best if self.is_min else score > best))
        is_best = trainer.strategy.broadcast(is_better and bool(score is not None and score.isfinite()))
        if is_best and score is not None:
            self.best_model_score = score.detach().cpu().clone()
        return is_best


def _check_weights(trainer: Trainer, module: LightningModule) -> None:
    is_finite = all(bool(weights.isfinite().all()) for weights in module.parameters())
    if not trainer.strategy.reduce_boolean_decision(is_finite, all=True):
        lr = f" with lr {module.hparams['lr']}" if "lr" in module.hparams else ""
        diverged = f"the training diverged in epoch {trainer.current_epoch}{lr}"
        raise UserError(f"{diverged}: its weights are infinite or not numbers; try a lower learning rate")


def begin_with_an_epoch(trainer: Trainer) -> None:
    """Let the loops, after their counters were set, begin an epoch, with a new iterator over the batches."""
    # Lightning would keep an iterator made before the random states were restored, and skip an epoch with max_steps.
    trainer.fit_loop.epoch_loop.restarting = False
    trainer.fit_loop.epoch_loop.on_iteration_done()
    trainer.fit_loop.on_iteration_done()


def _collect(trainer: Trainer) -> list[dict[str, Any]]:
    """Return the states of each process, as tensors and plain values; every process must call this."""
    device = trainer.strategy.root_device
    kind, keys, *rest = np.random.get_state()
    own = {
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
        "generators": [generator.get_state() for generator in _generators(trainer)],
    }
    states = [own] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(states, own)
    return states


def _restore(trainer: Trainer, states: list[dict[str, Any]]) -> None:
    """Restore what ``_collect`` returned; warn if there are now more processes or fewer."""
    if len(states) != trainer.world_size:
        processes = f"{len(states)} processes saved {trainer.ckpt_path}, and {trainer.world_size} resume the run"
        rank_zero_warn(f"{processes}: random numbers of the model and the loader, if they draw any, are others")
        return
    own, device = states[trainer.global_rank], trainer.strategy.root_device
    torch.set_rng_state(own["torch"])
    if device.type != "cpu" and own["device"] is not None:
        torch.get_device_module(device).set_rng_state(own["device"], device)
    np.random.set_state(tuple(own["numpy"]))
    random.setstate(own["python"])
    for generator, state in zip(_generators(trainer), own["generators"], strict=False):
        generator.set_state(state)


def _generators(trainer: Trainer) -> list[torch.Generator]:
    # A torch DataLoader and its samplers, one in another, may have generators of their own, often the same one.
    in_use = [each for each in (trainer.train_dataloader, trainer.val_dataloaders) if each is not None]
    owners = [loader for each in in_use for loader in CombinedLoader(each).flattened]  # however they are nested
    if any(getattr(loader, "persistent_workers", False) for loader in owners):
        rank_zero_warn("persistent_workers keep random states that no checkpoint has: a resumed run will draw others")
    for name in ("batch_sampler", "sampler") * 2:
        owners += [getattr(owner, name, None) for owner in owners]
    found = [getattr(owner, "generator", None) for owner in owners]
    return list(dict.fromkeys(each for each in found if isinstance(each, torch.Generator)))
