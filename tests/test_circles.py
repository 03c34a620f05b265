"""No files of the package import each other in a circle, for types or inside functions neither."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlx_diffgemma"
ALLOWED = {
    ("assets", "assets.sudoku"): "the table of tasks makes one when it is asked for",
    (
        "conversation.told",
        "conversation.turn",
    ): "a turn has its Reply written by what is told of it",
}
"""An arrow against the others -> its reason."""


def modules() -> dict[str, Path]:
    """Each module's name and file."""
    found = {}
    linked = [(PACKAGE / name).resolve() for name in ("convert", "metal")]  # not followed by rglob
    for file in sorted(each for folder in (PACKAGE, *linked) for each in folder.rglob("*.py")):
        place = PACKAGE.name / file.relative_to(PACKAGE if file.is_relative_to(PACKAGE) else ROOT)
        parts = place.with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(name: str, file: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of the package that a module imports anywhere."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        if isinstance(node, ast.ImportFrom):
            home = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*(home if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield from [each for each in (inner, source) if each in known][:1]


def graph() -> dict[str, set[str]]:
    """The modules that each module imports."""
    known = modules()
    return {
        name: {to for to in imported(name, file, known) if to != name}
        for name, file in known.items()
    }


def test_no_circle() -> None:
    arrows = graph()
    for source, target in ALLOWED:
        arrows[f"mlx_diffgemma.{source}"].remove(f"mlx_diffgemma.{target}")
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle: {' <- '.join(error.args[1])}") from None


def test_the_graph_has_what_is_known() -> None:
    arrows = graph()
    assert "mlx_diffgemma.conversation.state" in arrows["mlx_diffgemma.conversation.session"]
    assert "mlx_diffgemma.cli.chat.begin" in arrows["mlx_diffgemma.cli.chat.command"]  # inside
    assert "mlx_diffgemma.convert.plan" in arrows["mlx_diffgemma.finetune.fuse"]  # by a link
