"""How the programs that measure are called, and how they print their tables, in Markdown."""

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"  # MNIST's files


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a program's docstring, as it stands."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def print_head(*columns: str) -> None:
    """Print the head of a table."""
    print_row(*columns)
    print("|---" * len(columns) + "|")


def print_row(*cells: str) -> None:
    """Print a row of a table, at once: the next one may take long."""
    print(f"| {' | '.join(cells)} |", flush=True)
