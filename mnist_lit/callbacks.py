"""The callbacks of a run, by the names under which programs and configs have them."""

from mnist_lit.run.checkpoint import RunCheckpoint
from mnist_lit.run.execution import StepsPerExecution
from mnist_lit.run.progress import EpochLines

__all__ = ["EpochLines", "RunCheckpoint", "StepsPerExecution"]
