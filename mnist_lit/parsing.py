"""The parser of every command: a short help, and errors that say which option, what was given and what is right."""

import json
import os
import re
import sys
from argparse import SUPPRESS, Action, ArgumentError
from difflib import SequenceMatcher
from typing import Any

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, get_loader, set_loader

_LISTED_TRAINER_OPTIONS = {f"trainer.{name}" for name in ("max_epochs", "devices", "default_root_dir")}
_UNLISTED = {"trainer", "model", "data", "data.augment", "data.seed"}  # groups, and a seed that follows another
_IN_WORDS = {"NoneType": "null", "bool": "true or false", "int": "a whole number", "float": "a number"} | dict.fromkeys(
    ("Sequence", "list"), "a list, for example '[256, 128]'"
)


def _is_listed(option: str) -> bool:
    return option in _LISTED_TRAINER_OPTIONS or not (option.startswith("trainer.") or option in _UNLISTED)


class ShortHelp(DefaultHelpFormatter):
    """Lists this package's options, each with its default and the first clause of its description.

    Nearly all of Lightning's options are left out; ``--help_all`` lists them, with every type and description.
    """

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=36, **options)  # type: ignore[no-untyped-call]  # jsonargparse gives it no types

    def add_argument(self, action: Action) -> None:
        """Add an option, if it is listed."""
        if _is_listed(action.dest):
            super().add_argument(action)

    def _format_action_invocation(self, action: Action) -> str:
        option = next((each for each in action.option_strings if each.startswith("--")), action.dest)
        if not action.option_strings or action.default == SUPPRESS:
            return option
        if action.default is None:
            return f"{option} {re.split('[._]', action.dest)[-1].upper()}"
        value = action.default
        return f"{option} {json.dumps(value) if isinstance(value, bool | list | tuple) else value}"

    def _get_help_string(self, action: Action) -> str:
        clause = re.split(r" \(|[.,;](?=\s|$|[A-Z])", action.help or "")[0].replace("``", "")
        if isinstance(action.metavar, str) and action.metavar.startswith("{") and not isinstance(action.default, bool):
            clause += f": {action.metavar[1:-1].replace(',', ', ')}"
        return f"{clause} (required)" if action.required and action.option_strings else clause


class HelpAll(Action):
    """Prints the help of jsonargparse, which has all options."""

    def __init__(self, option_strings: list[str], dest: str, **_: Any) -> None:
        text = "Show all options in full (types, descriptions, Lightning's own)"
        super().__init__(option_strings, SUPPRESS, nargs=0, default=SUPPRESS, help=text)

    def __call__(self, parser: Any, *_: Any) -> None:
        """Print the help and exit."""
        parser.formatter_class = DefaultHelpFormatter
        parser.print_help()
        parser.exit()


class _UniqueKeyLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value} is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _load(text: str) -> Any:
    yaml.load(text, _UniqueKeyLoader)  # YAML itself takes the last of two values, without a word
    return get_loader("yaml")(text)


set_loader("yaml with unique keys", _load, exceptions=(yaml.YAMLError,))


def parser_options(prog: str, command: str, description: str) -> dict[str, Any]:
    """Return the arguments of a command's ``ArgumentParser``."""
    return {
        "prog": f"{prog} {command}",
        "usage": f"{prog} {command} [options]",
        "description": f"{description} The values are the defaults.",
        "formatter_class": ShortHelp,
        "parser_mode": "yaml with unique keys",
        "allow_abbrev": False,
        "exit_on_error": False,
        "default_env": True,
        "env_prefix": f"PL_{command}_",
    }


def parse(parser: ArgumentParser) -> Namespace:
    """Parse the arguments of the command in ``sys.argv``.

    Raises:
        ArgumentError: If an option does not exist or has a wrong value; the message names it and the remedy.
    """
    try:
        return parser.parse_args(sys.argv[2:])
    except UnicodeDecodeError as error:
        raise ArgumentError(None, f"a --config file is not UTF-8 text: {error}") from error
    except ArgumentError as error:
        raise ArgumentError(None, _explain(str(error), parser)) from error


def _explain(message: str, parser: ArgumentParser) -> str:
    """Return a message of jsonargparse in plain words: the option, what was given and what is right."""
    if unknown := message.partition("unrecognized arguments: ")[2]:
        meant = _nearest(unknown.split()[0].partition("=")[0], list(parser.get_defaults().keys()))
        hint = f"did you mean --{meant}? " if meant else ""
        return f"{message}; {hint}{parser.prog} --help lists the options"
    if "Unexpected config" in message:
        return "a --config file must have options, for example 'model: {lr: 0.1}', and this one has none"
    parts = re.match(r'.*Parser key "(\S+)":\s*(.*)', message, re.DOTALL)  # the innermost, of a class's argument
    if not parts:
        return message
    name, problem = parts.groups()
    variable = f"{parser.env_prefix}_{name}".replace(".", "__").upper()
    is_given = any(argument.startswith(f"--{name}") for argument in sys.argv)
    option = variable if variable in os.environ and not is_given else f"--{name}"
    given = re.search(r"(?:Got|Given) value: (.*)", problem)
    types = re.findall(r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[(.*?)\])", problem)
    if not given or not types:
        return f"{option}: {problem}"
    right = " or ".join(_IN_WORDS.get(kind, kind) or f"one of {choices}" for kind, choices in dict.fromkeys(types))
    return f"{option}: expected {right}, got {given[1]}"


def _nearest(name: str, options: list[str]) -> str | None:
    """Return the option whose last part is most like that of ``name``, rather a listed one; None if none is like it."""
    word = name.lstrip("-").replace("-", "_").rpartition(".")[2]

    def likeness(option: str) -> float:
        last = option.rpartition(".")[2]
        score = 1.0 if last.startswith(word) else SequenceMatcher(None, word, last).ratio()
        return score + 0.1 * _is_listed(option)

    best = max(options, key=likeness)
    return best if word and likeness(best) > 0.65 else None
