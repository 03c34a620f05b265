"""Faults put into the room, one at a time: the room's own default tests notice each."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import mlx_diffgemma

PACKAGE = Path(str(mlx_diffgemma.__file__)).parent
TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Fault:
    """`old`, which stands once in a file of the room, becomes `new`; tests: those that notice."""

    file: str
    old: str
    new: str
    tests: str

    def __str__(self) -> str:
        return f"{self.file}: {self.old} -> {self.new or 'nothing'}"


FAULTS = [
    Fault("lattice.py", "bincount(self.source, passed", "bincount(self.target, passed", "lattice"),
    Fault("lattice.py", "top[top == NEVER] = 0.0", "top = top + 0.0", "lattice"),
    Fault("lattice.py", "last = np.where(end, alpha, NEVER)", "last = alpha", "lattice"),
    Fault(
        "lattice.py",
        "Floats = np.add.reduceat(mass",
        "Floats = np.maximum.reduceat(mass",
        "lattice",
    ),
    Fault("lattice.py", "states[-1] = last.argmax()", "states[-1] = last.argmin()", "lattice"),
    Fault("constraint.py", "distance <= self.left - length", "distance <= self.left", "lattice"),
    Fault("constraint.py", "] < self.left\n", "] <= self.left\n", "lattice"),
    Fault("constraint.py", "g[length:] = self._filling()", "g[length:] = 1.0", "lattice"),
    Fault("machine.py", "[done] if controls.stops else", "[done] if True else", "form"),
    Fault("machine.py", "in dict.fromkeys(controls.fillers):", "in controls.fillers:", "form"),
    Fault("machine.py", "np.arange(UNFITTING, ", "np.arange(UNFITTING + 1, ", "lattice"),
    Fault("dfa.py", "table[bad] = -1", "pass", "dfa"),
    Fault("dfa.py", "if self.nfa.edges[s] or s == self.end", "if self.nfa.edges[s]", "dfa"),
    Fault("nfa.py", "if first & block:", "if first & block == 1:", "dfa"),
    Fault("nfa.py", "first, later = None, end", "first, later = first, end", "dfa"),
    Fault("minimize.py", "if sum(map(len, found)) == sizes[number]:", "if found:", "minimize"),
    Fault("minimize.py", " | (np.diff(group[states]) != 0)", "", "minimize"),
    Fault("minimize.py", "sizes[number] -= len(part)", "pass", "minimize"),
    Fault("classes.py", "begins[depth + 1]]", "begins[depth + 1] - 1]", "classes"),
    Fault("regex.py", "named if char.islower() else named.inverted()", "named", "regex"),
    Fault("schema/numbers.py", "min(bounds.high - bounds.high_open", "min(bounds.high", "schema"),
    Fault("schema/numbers.py", "return max(1, EXACT_DIGITS", "return 18 - max(1, 0", "schema"),
    Fault("schema/strings.py", '"dD"), BELOW_8', '"dD"), HEX', "schema"),
    Fault("schema/spelling.py", "sorted(names, key=str.lower)", "list(names)", "calls"),
    Fault("schema/reader.py", "name in needed)", "True)", "schema"),
    Fault("calls.py", "return avoiding(dfa, ends)", "return dfa", "calls"),
    Fault("holes.py", "np.logaddexp.reduceat", "np.maximum.reduceat", "holes"),
    Fault("form.py", "Times(opening, 0, 1)", "opening", "form"),
    Fault("tables.py", "{form.key}\\n{vocabulary.digest}", "{form.key}", "cache"),
]


def with_fault(fault: Fault, folder: Path) -> None:
    """The package in a folder: the room copied, the rest as links."""
    (folder / "mlx_diffgemma").mkdir()
    for part in PACKAGE.iterdir():
        if part.name not in ("constrain", "__pycache__"):
            (folder / "mlx_diffgemma" / part.name).symlink_to(part.resolve())
    for file in sorted((PACKAGE / "constrain").rglob("*.py")):
        text = file.read_text()
        if file == PACKAGE / "constrain" / fault.file:
            assert text.count(fault.old) == 1, f"{fault.old} stands {text.count(fault.old)} times"
            text = text.replace(fault.old, fault.new)
        copy = folder / "mlx_diffgemma" / file.relative_to(PACKAGE)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_noticed(fault: Fault, tmp_path: Path) -> None:
    with_fault(fault, tmp_path)
    tests = TESTS / f"test_{fault.tests}.py"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(tests)]
    ran = subprocess.run(
        command,
        cwd=TESTS.parents[1],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 1, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert "failed" in ran.stdout or "error" in ran.stdout
