"""The random states that a run continues with: of torch, numpy and Python, and of its loaders."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import CombinedLoader, rank_zero_warn


def collect(trainer: Trainer) -> list[dict[str, Any]]:
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


def restore(trainer: Trainer, states: list[dict[str, Any]]) -> None:
    """Restore what ``collect`` returned; warn if there are now more processes or fewer."""
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
