"""How the programs that measure read their options, and how they print their tables, in Markdown."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"  # MNIST's files


def make_parser(description: str | None, **options: tuple[Any, str]) -> ArgumentParser:
    """Return a parser with a docstring for its help, and options given as (default, help); lists are of integers."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    for name, (default, text) in options.items():
        kind, nargs = (int, "+") if isinstance(default, list) else (type(default), None)
        parser.add_argument(f"--{name}", type=kind, nargs=nargs, default=default, help=text)
    return parser


def print_head(*columns: str) -> None:
    """Print the head of a table."""
    print_row(*columns)
    print("|---" * len(columns) + "|")


def print_row(*cells: str) -> None:
    """Print a row of a table, at once: the next one may take long."""
    print(f"| {' | '.join(cells)} |", flush=True)
