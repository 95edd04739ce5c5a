"""The parts of the package: imports point one way, and its names are found."""

import ast
from collections.abc import Iterator
from pathlib import Path

import mnist_lit

PACKAGE = Path(__file__).parent.parent / "mnist_lit"
CORE = "augment", "datamodule", "mnist", "module"  # with network
# The parts that a file of each part may import, besides its own; "names" are the modules that only re-export.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "quiet": set(),
    "parsing": set(),
    "network": {"errors"},
    "files": set(),
    "checkpoints": {"errors", "network"},
    "core": {"errors", "files", "checkpoints", "network"},
    "checkpoint_io": {"errors", "files"},
    "pictures": {"errors", "files", "checkpoints", "network", "quiet"},
    "tools": {"errors", "files", "checkpoints", "network", "core", "pictures"},
}
MAY_IMPORT["run"] = MAY_IMPORT["tools"] - {"pictures"} | {"quiet", "checkpoint_io", "tools"}
MAY_IMPORT["names"] = MAY_IMPORT["commands"] = MAY_IMPORT.keys() | {"names", "commands"}


def part(module: str) -> str:
    """Return the part that ``mnist_lit.<module>`` belongs to."""
    first = module.split(".")[0]
    if first in CORE:
        return "core"
    if first in ("cli", "__main__"):
        return "commands"
    return first if first in MAY_IMPORT else "names"


def imported(tree: ast.AST) -> Iterator[str]:
    """Return the modules of the package that a file imports, in whatever way."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the package has no relative imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # of import_module
            yield node.value


def test_imports_point_one_way() -> None:
    seen = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        seen.add(part(module))
        for name in imported(ast.parse(path.read_text())):
            if name.startswith("mnist_lit.") and " " not in name:
                target = part(name.removeprefix("mnist_lit."))
                assert target in {part(module)} | MAY_IMPORT[part(module)], f"{module} imports {name}"
    assert seen == MAY_IMPORT.keys()


def test_the_names_of_the_package_are_there_before_they_are_imported() -> None:
    assert {"MNISTClassifier", "RunCheckpoint", "make_trainer"} <= {*dir(mnist_lit)} & {*mnist_lit.__all__}
