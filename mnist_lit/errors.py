"""Errors that the user can correct, and the check of a number's range."""

from math import inf
from os.path import relpath
from signal import Signals


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


def check_range(
    name: str,
    value: float,
    *,
    at_least: float = -inf,
    above: float = -inf,
    at_most: float = inf,
    below: float = inf,
    is_whole: bool = False,
) -> None:
    """Check that a number lies within its limits.

    Raises:
        UserError: If it does not, is infinite or NaN, or is no number or no whole number.
    """
    if not isinstance(value, int if is_whole else int | float) or isinstance(value, bool):
        raise UserError(f"{name} must be a {'whole ' if is_whole else ''}number, got {value!r}")
    if not (at_least <= value <= at_most and above < value < below):  # NaN compares false with everything
        limits = {"at least": at_least, "above": above, "at most": at_most, "below": below}
        text = " and ".join(f"{words} {limit}" for words, limit in limits.items() if abs(limit) < inf)
        raise UserError(f"{name} must be {text}, got {value}")
