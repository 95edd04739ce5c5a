"""Errors that the user can correct, and the check of a number's range."""

from math import inf


class UserError(ValueError):
    """An error that the user can correct: its message says what, where and what to do.

    The command line prints the message as one sentence. Every other error keeps its traceback.
    """


def check_range(
    name: str, value: float, *, at_least: float = -inf, above: float = -inf, at_most: float = inf, below: float = inf
) -> None:
    """Check that a finite number lies within its limits.

    Raises:
        UserError: If it does not, NaN included.
    """
    if not (at_least <= value <= at_most and above < value < below):  # NaN compares false with everything
        limits = {"at least": at_least, "above": above, "at most": at_most, "below": below}
        said = " and ".join(f"{words} {limit}" for words, limit in limits.items() if abs(limit) < inf)
        raise UserError(f"{name} must be {said}, got {value}")
