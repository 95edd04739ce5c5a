"""Errors that the user can correct, the check of a number's range, and the parsers' messages in plain words."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
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


def explain(message: str, command: str, options: Iterable[str]) -> str:
    """Return an argument parser's message in plain words, with the option that was probably meant.

    Args:
        message: The message of argparse or jsonargparse.
        command: How the program and its subcommand are called.
        options: The command's options, each beginning with ``--``.
    """
    if unknown := re.search(r"unrecognized arguments: ((-*)(\S*).*)", message):
        text, dashes, name = unknown.groups()
        if not dashes:
            return f"unrecognized arguments: {text}; a checkpoint is named with --ckpt_path, pictures are for 'read'"
        by_last_part = {option.rpartition(".")[2].lstrip("-"): option for option in options}
        meant = get_close_matches(name.partition("=")[0].rpartition(".")[2], by_last_part)
        hint = f"did you mean {' or '.join(by_last_part[each] for each in meant)}? " if meant else ""
        return f"unrecognized arguments: {text}; {hint}{command} --help lists all options"
    if missing := re.search("are required: (.*)", message):
        return "missing: " + ", ".join(
            f"--{name.strip('- ').removeprefix(f'{command.split()[-1]}.')}" for name in missing[1].split(",")
        )
    if wrong := re.search(r'Parser key "(\S+)":\s+Expected a (.*)\. Got value: (.*)', message, re.DOTALL):
        name, kind, value = wrong.groups()
        if "Sequence" in kind:
            return f"--{name} is a list: write it in quotes, for example --{name} '[256, 128]'"
        choices = ", ".join(re.findall("'(.*?)'", kind))
        if "Literal" in kind:
            return f"--{name} is {value}: choose from {choices}"
        return f"--{name} is {value}, which is not of the type {choices or kind}"
    return message
