"""One definition of each thing: a second one anywhere in the package is found by its calls."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8"))
    for folder in ("mlx_diffgemma", "convert")
    for file in sorted((ROOT / folder).rglob("*.py"))
}
PACKAGE = "mlx_diffgemma/"
DTYPES = {"float32", "float16", "bfloat16", "F64", "F32", "F16", "BF16", "I64", "U64", "I32", "U32"}
DTYPES |= {"I16", "U16", "I8", "U8", "BOOL"}

ALLOWED = {
    # A file replaced or renamed, or a temporary name for one.
    ("os.replace", PACKAGE + "machine/files.py"): "the one writer of whole files",
    ("os.rename", "convert/state.py"): "a whole folder takes the place of another",
    ("os.replace", PACKAGE + "checkpoint/fetch.py"): "a whole file in the Hub's cache",
    # A lock, which some file systems do not know.
    ("fcntl.flock", PACKAGE + "machine/locks.py"): "the one lock against a second process",
    ("fcntl.flock", PACKAGE + "cli/chat/history.py"): "without one the file is not shortened",
    # Text parsed as JSON.
    ("json.loads", PACKAGE + "machine/files.py"): "the one reader of JSON",
    ("json.loads", PACKAGE + "machine/identity.py"): "what system_profiler prints",
    ("json.loads", PACKAGE + "profile/workload.py"): "data of this package, maybe in an archive",
    # The system and its tools.
    ("platform", PACKAGE + "machine/identity.py"): "chip, system and Python",
    ("sysctl", PACKAGE + "machine/identity.py"): "chip and memory of a Mac",
    ("os.sysconf", PACKAGE + "machine/memory.py"): "the machine's memory",
}
"""A call or a command, and the module that makes it -> its reason."""

CALLS = {
    "os.replace": "os.replace",
    "os.rename": "os.rename",
    "os.renames": "os.rename",
    "os.link": "os.replace",
    "shutil.move": "os.replace",
    "tempfile.mkstemp": "os.replace",
    "tempfile.NamedTemporaryFile": "os.replace",
    "fcntl.flock": "fcntl.flock",
    "json.load": "json.loads",
    "json.loads": "json.loads",
    "os.sysconf": "os.sysconf",
    "os.uname": "platform",
}
"""What is called -> the thing it defines once more."""


def definitions(tree: ast.Module) -> Iterator[str]:
    """The things that a module defines, by the names of ALLOWED."""
    aliases = dict(imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in ("sysctl", "sw_vers", "uname"):
            yield "sysctl"
        if isinstance(node, ast.Call):
            name = dotted(node.func, aliases)
            if name.startswith("platform."):
                yield "platform"
            if name in CALLS:
                yield CALLS[name]


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """A name as the module has it, and as its home has it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, aliases)}.{node.attr}"
    return aliases.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def dtype_tables(tree: ast.Module) -> Iterator[int]:
    """Lines of mappings from dtype names to sizes, other names or dtypes of a library."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            names = [
                value
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and key.value in DTYPES
            ]
            if len(names) > 1 and all(isinstance(v, ast.Constant | ast.Attribute) for v in names):
                yield node.lineno
        if isinstance(node, ast.Subscript) and dotted(node.value, {}) == "Literal":
            said = [n for n in ast.walk(node) if isinstance(n, ast.Constant) and n.value in DTYPES]
            if len(said) > 1:
                yield node.lineno


@pytest.mark.parametrize("module", MODULES)
def test_each_thing_is_defined_where_it_belongs(module: str) -> None:
    found = {name for name in definitions(MODULES[module]) if (name, module) not in ALLOWED}
    assert found == set()


def test_what_is_allowed_is_there() -> None:
    for name, module in ALLOWED:
        assert name in definitions(MODULES[module]), (name, module)


def test_dtypes_have_one_table() -> None:
    home = PACKAGE + "machine/dtypes.py"
    assert {m for m, tree in MODULES.items() if any(dtype_tables(tree))} == {home}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os as o\no.replace(a, b)", "os.replace"),
        ("from tempfile import mkstemp\nmkstemp()", "os.replace"),
        ("from json import loads as parse\nparse(text)", "json.loads"),
        ("import platform\nplatform.mac_ver()", "platform"),
        ('run(["sysctl", "-n", "hw.memsize"])', "sysctl"),
        ("import os\nos.path.join(a, b)", None),
    ],
)
def test_a_second_definition_is_found(source: str, found: str | None) -> None:
    assert next(definitions(ast.parse(source)), None) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('{"BF16": 2, "F16": 2}', True),
        ('{"float32": mx.float32, "float16": mx.float16}', True),
        ('Literal["float32", "bfloat16"]', True),
        ('{"BF16": ("u2", 0x7FFF), "F16": ("u2", 0x7FFF)}', False),  # bits of a number
        ("{mx.float32: 1e-5, mx.float16: 1e-3}", False),  # tolerances
    ],
)
def test_a_second_table_is_found(source: str, found: bool) -> None:
    assert any(dtype_tables(ast.parse(source))) is found
