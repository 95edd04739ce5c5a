"""The callbacks of a run by the path that older configs have; ``from mnist_lit import RunCheckpoint`` is the same."""

from mnist_lit import EpochLines as EpochLines
from mnist_lit import RunCheckpoint as RunCheckpoint
from mnist_lit import StepsPerExecution as StepsPerExecution
