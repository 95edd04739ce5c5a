"""The house: imports point one way."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "mnist_lit"
CORE = "network", "augment", "batches", "datamodule", "metrics", "teacher", "module"
# What a file of each part may import, besides its own part; the names of public places stand for others.
MAY_IMPORT = {
    "ground": set(),
    "core": {"ground"},
    "run": {"ground", "core"},
    "tools": {"ground", "core"},
    "names": {"core", "run", "tools"},
    "commands": {"ground", "core", "run", "tools"},
}


def part(module: str) -> str:
    """Return the part of the house in which ``mnist_lit.<module>`` stands."""
    first = module.split(".")[0]
    if first in CORE:
        return "core"
    parts = {"errors": "ground", "files": "ground", "run": "run", "tools": "tools", "cli": "commands"}
    return parts.get(first, "commands" if first == "__main__" else "names")


def test_imports_point_one_way() -> None:
    seen = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        seen.add(part(module))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mnist_lit"):
                imported = node.module.removeprefix("mnist_lit").removeprefix(".") or node.names[0].name
                allowed = {part(module)} | MAY_IMPORT[part(module)]
                assert part(imported) in allowed, f"{module} imports {imported}"
    assert seen == MAY_IMPORT.keys()
