"""Errors that the user can correct, and the check of a number's range."""

import operator
from math import inf
from numbers import Integral, Real
from os.path import relpath
from signal import Signals
from typing import TypeVar, cast

Number = TypeVar("Number", int, float)
_COMPARISONS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


class UserError(ValueError):
    """An error that the user can correct; the message names the problem, its place and the remedy.

    The command line prints the message as one sentence. Other errors keep their traceback.
    """


class RunInterruptedError(KeyboardInterrupt):
    """Ctrl-C (SIGINT) or SIGTERM stopped a run.

    Args:
        signum: The signal's number.
        saved: The checkpoint that training continues from, empty if no epoch has ended; None if it was no training.
    """

    def __init__(self, signum: int, saved: str | None) -> None:
        super().__init__(signum, saved)
        self.signum = signum
        self.saved = saved

    def __str__(self) -> str:
        saved = "" if self.saved is None else "; nothing was saved, since no epoch has ended"
        return f"stopped by {Signals(self.signum).name}" + (f"; saved {relpath(self.saved)}" if self.saved else saved)


def check_range(name: str, value: Number, *, is_whole: bool = False, **limits: float) -> Number:
    """Return a number, NumPy's as Python's, within its limits: ``at_least``, ``above``, ``at_most`` and ``below``.

    Raises:
        UserError: If it does not, is infinite or NaN, or is no number or no whole number.
    """
    if not isinstance(value, Integral if is_whole else Real) or isinstance(value, bool):
        raise UserError(f"{name} must be a {'whole ' if is_whole else ''}number, got {value!r}")
    if not (abs(value) < inf and all(_COMPARISONS[words](value, limit) for words, limit in limits.items())):  # or NaN
        text = " and ".join(f"{words.replace('_', ' ')} {limit}" for words, limit in limits.items())
        raise UserError(f"{name} must be {text}, got {value}")
    return cast(Number, int(value) if isinstance(value, Integral) else float(value))
