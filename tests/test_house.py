"""The parts of the package: imports point one way."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "mnist_lit"
CORE = "augment", "datamodule", "mnist", "module"  # with network
# The parts that a file of each part may import, besides its own; "names" are the modules that only re-export.
MAY_IMPORT = {
    "errors": set(),
    "network": {"errors"},
    "files": {"errors", "network"},
    "core": {"errors", "files", "network"},
    "quiet": set(),
    "options": {"errors", "core"},
    "checkpoint_io": {"errors", "files"},
    "run": {"errors", "files", "quiet", "options", "checkpoint_io", "network", "core", "tools"},
    "pictures": {"errors", "files", "network", "quiet"},
    "tools": {"errors", "files", "network", "core", "pictures"},
    "names": {"errors", "network", "core", "run", "pictures", "commands"},
    "commands": {"quiet", "options", "errors", "files", "network", "core", "run", "pictures", "tools"},
}


def part(module: str) -> str:
    """Return the part that ``mnist_lit.<module>`` belongs to."""
    first = module.split(".")[0]
    if first in CORE:
        return "core"
    if first in ("cli", "config", "__main__"):
        return "commands"
    return first if first in MAY_IMPORT else "names"


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
