"""The parser of every command: a short help, and errors that say which option, what was given and what is right."""

import json
import re
import sys
from argparse import SUPPRESS, Action, ArgumentError
from difflib import get_close_matches
from typing import Any

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, get_loader, set_loader

_LISTED_TRAINER_OPTIONS = {"trainer.max_epochs", "trainer.default_root_dir"}
_UNLISTED = {"trainer", "model", "data", "data.augment", "data.seed"}  # groups, and a seed that follows another
_IN_WORDS = {"NoneType": "null", "bool": "true or false", "int": "a whole number", "float": "a number"} | dict.fromkeys(
    ("Sequence", "list"), "a list, for example '[256, 128]'"
)


def _is_listed(option: str) -> bool:
    is_lightnings = option.startswith("trainer.") and option not in _LISTED_TRAINER_OPTIONS
    return not (is_lightnings or option in _UNLISTED or option.count(".") > 1)  # two: an option of an option's class


class ShortHelp(DefaultHelpFormatter):
    """Lists the options that are set most, each with its default and the first clause of its description.

    ``--help_all`` lists all, Lightning's too, with every type and description.
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


class _UniqueKeyLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value} is there twice")
            seen.add(str(key.value))
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
        "formatter_class": DefaultHelpFormatter if "--help_all" in sys.argv else ShortHelp,
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
    parser.add_argument("--help_all", action="help", help="Show all options in full (with types, Lightning's too)")
    try:
        return parser.parse_args(sys.argv[2:])
    except UnicodeDecodeError as error:
        raise ArgumentError(None, f"a --config file is not UTF-8 text: {error}") from error
    except ArgumentError as error:
        raise ArgumentError(None, _explain(str(error), parser)) from error


def _explain(message: str, parser: ArgumentParser) -> str:
    """Return a message of jsonargparse in plain words: the option, what was given and what is right."""
    if unknown := message.partition("unrecognized arguments: ")[2]:
        meant = _nearest(unknown.partition(" ")[0].partition("=")[0], list(parser.get_defaults().keys()))
        hint = f"did you mean --{meant}? " if meant else ""
        return f"{message}; {hint}{parser.prog} --help_all lists the options"
    if "Unexpected config" in message:
        return "a --config file must have options, for example 'model: {lr: 0.1}', and this one has none"
    parts = re.search(r'Parser key "(\S+)":\s*(.*)', message, re.DOTALL)
    if not parts:
        return message
    option, problem = parts.groups()
    of_class = r"(Problem with given class_path|Expected a dot import path).*?(?=\n\s*- |\nGiven |\Z)"
    if found := re.search(of_class, problem, re.DOTALL):
        return f"--{option}: {found[0]}"
    given = re.search(r"(?:Got|Given) value: (.*)", problem)
    types = re.findall(r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[(.*?)\])", problem)
    if not given or not types:
        return f"--{option}: {problem}"
    right = " or ".join(_IN_WORDS.get(kind, kind) or f"one of {choices}" for kind, choices in dict.fromkeys(types))
    return f"--{option}: expected {right}, got {given[1]}"


def _nearest(name: str, options: list[str]) -> str | None:
    """Return the option whose last part begins like that of ``name`` or is like it, if possible a listed one."""
    word = name.lstrip("-").replace("-", "_").rpartition(".")[2]
    for candidates in (filter(_is_listed, options), options) if word else ():
        named = {option.rpartition(".")[2]: option for option in candidates}
        matches = [each for each in named if each.startswith(word)] or get_close_matches(word, named, 1, cutoff=0.7)
        if matches:
            return named[matches[0]]
    return None
