"""The parser of every command: a short help, and errors that say which option, what was given and what is right."""

import json
import os
import re
import sys
from argparse import SUPPRESS, ArgumentError, HelpFormatter
from difflib import SequenceMatcher
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader

_LISTED_TRAINER_OPTIONS = {"trainer.max_epochs", "trainer.default_root_dir"}
_UNLISTED = {"trainer", "model", "data", "data.augment", "data.seed"}  # groups, and a seed that follows another
_EXPECTED_OPTIONS = "expected options, in a file for example 'model: {lr: 0.1}'"
_IN_WORDS = {"NoneType": "null", "bool": "true or false", "int": "a whole number", "float": "a number"}
_IN_WORDS["Sequence"] = "a list, for example '[256, 128]'"


def _is_listed(option: str) -> bool:
    is_lightnings = option.startswith("trainer.") and option not in _LISTED_TRAINER_OPTIONS
    return not (is_lightnings or option in _UNLISTED or option.count(".") > 1)  # two: an option of an option's class


class _WideHelpFormatter(HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36)


class _UniqueKeyLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        names = [str(key.value) for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if names[place] in names[:place]:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value} is there twice")
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
        "parser_mode": "yaml with unique keys",
        "allow_abbrev": False,
        "exit_on_error": False,
        "default_env": True,
        "env_prefix": f"PL_{command}_",
    }


def parse(parser: ArgumentParser) -> Namespace:
    """Parse the arguments of the command in ``sys.argv``.

    ``--help`` lists the options that are set most, each with its default and the first clause of its description, and
    ``--help_all`` all, Lightning's too, with every type and description.

    Raises:
        ArgumentError: If an option does not exist or has a wrong value; the message names it and the remedy.
    """
    parser.add_argument("--help_all", action="help", help="Show all options in full (with types, Lightning's too)")
    if {"-h", "--help"} & {*sys.argv}:
        _shorten_help(parser)
    try:
        config = parser.parse_args(sys.argv[2:])
    except UnicodeDecodeError as error:
        raise ArgumentError(None, f"a --config file is not UTF-8 text: {error}") from error
    except ArgumentError as error:
        raise ArgumentError(None, _explain(str(error), parser)) from error
    names = [action.dest for action in parser._actions if not action.dest.endswith(".help")]
    variables = [f"{parser.env_prefix}_{name}".replace(".", "__").upper() for name in names]
    for variable in os.environ:
        if variable.startswith(f"{parser.env_prefix}_".upper()) and variable not in variables:
            option = "--" + variable.partition("__")[2].replace("__", ".").lower()
            raise ArgumentError(None, _explain(f"{variable}: unrecognized arguments: {option}", parser))
    for group in {name.rpartition(".")[0] for name in names} & {*config.keys(branches=True)}:
        if not isinstance(config[group], Namespace):  # from a file, where jsonargparse takes any value
            raise ArgumentError(None, f"--{group}: {_EXPECTED_OPTIONS}, got {config[group]}")
    return config


def _shorten_help(parser: ArgumentParser) -> None:
    parser.formatter_class = _WideHelpFormatter
    for action in parser._actions:
        clause = re.split(r" \(|[.,;](?=\s|$|[A-Z])", action.help or "")[0].replace("``", "")
        choices, value = re.findall(r"^{(.*)}$", str(action.metavar)), action.default
        if choices and not isinstance(value, bool):
            clause += f": {choices[0].replace(',', ', ')}"
        action.help = clause + " (required)" * action.required if _is_listed(action.dest) else SUPPRESS
        action.option_strings = [each for each in action.option_strings if each.startswith("--")][:1]
        if value is None:
            action.metavar = re.split("[._]", action.dest)[-1].upper()
        elif value != SUPPRESS:
            action.metavar = json.dumps(value) if isinstance(value, bool | list | tuple) else str(value)


def _explain(message: str, parser: ArgumentParser) -> str:
    """Return a message of jsonargparse in plain words: the option, what was given and what is right."""
    if unknown := re.search(r"(?:unrecognized arguments: |accept option '|^Option ')([^' =]*)", message):
        return f"{message}; {_nearest(unknown[1], parser)}{parser.prog} --help_all lists the options"
    if "Unexpected config" in message:
        return "a --config file must have options, for example 'model: {lr: 0.1}', and this one has none"
    if not (parts := re.match(r'Parser key "(\S+)":\s*(.*)', message, re.DOTALL)):
        return message
    option, problem = parts.groups()
    given = re.search(r"(?:Got|Given) value: (.*)", problem)
    types = re.findall(r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[(.*?)\])", problem)
    if of_class := re.search(r"(Problem with given class_path|Expected a dot import path).*(\n {4}(?!- ).*)*", problem):
        problem = of_class[0]
    elif given and types:
        right = " or ".join(_IN_WORDS.get(kind, kind) or f"one of {choices}" for kind, choices in dict.fromkeys(types))
        problem = f"expected {right}, got {given[1]}"
    elif given := re.match(r"Unable to load config [\"'](.*?)[\"']", problem):
        problem = f"{_EXPECTED_OPTIONS}, got {given[1]}"
    return f"--{option}: {problem}"


def _nearest(unknown: str, parser: ArgumentParser) -> str:
    """Name the option whose last part begins like that of an unknown one or is like it, if possible a listed one."""
    word = unknown.lstrip("-").replace("-", "_").rpartition(".")[2]

    def likeness(option: str) -> tuple[float, bool]:
        end = option.rpartition(".")[2]
        return 1 if end.startswith(word) else SequenceMatcher(None, word, end).ratio(), _is_listed(option)

    nearest = max(parser.get_defaults().keys(), key=likeness)
    return f"did you mean --{nearest}? " if word and likeness(nearest)[0] >= 0.7 else ""
