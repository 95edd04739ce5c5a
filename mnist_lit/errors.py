"""Errors that the user can correct, and the check of a number's range."""

from math import inf


class UserError(ValueError):
    """An error that the user can correct; the message names the problem, its place and the remedy.

    The command line prints the message as one sentence. Other errors keep their traceback.
    """


def check_range(
    name: str, value: float, *, at_least: float = -inf, above: float = -inf, at_most: float = inf, below: float = inf
) -> None:
    """Check that a number lies within its limits.

    Raises:
        UserError: If it does not, or is infinite or NaN.
    """
    if not (at_least <= value <= at_most and above < value < below):  # NaN compares false with everything
        limits = {"at least": at_least, "above": above, "at most": at_most, "below": below}
        text = " and ".join(f"{words} {limit}" for words, limit in limits.items() if abs(limit) < inf)
        raise UserError(f"{name} must be {text}, got {value}")
