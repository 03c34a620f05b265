"""Every family of kernels at length: their text, sanitizers, and a fault at each bound."""

from pathlib import Path

import pytest
from families import FAMILIES, KERNELS
from metal_sim import address_space_errors, run_sanitized, simulated, subset_errors
from metal_sim.compiler import Sanitizer
from mutants import Kernel, Mutant, controls, tried

HERE = Path(__file__).parent
METAL = HERE.parents[1] / "metal"
SANITIZERS = ("address", "thread")

every_family = pytest.mark.parametrize("family", FAMILIES)
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)


# --- the text


@pytest.mark.parametrize("file", sorted(METAL.glob("*.[hm]*")), ids=lambda file: file.name)
def test_the_text_keeps_to_metals_subset(file: Path) -> None:
    assert subset_errors(file.read_text()) == []


def test_every_file_belongs_to_a_kernel() -> None:
    own = {f"{kernel.name}.metal" for kernel in KERNELS}
    assert {file.name for file in METAL.glob("*.metal")} == own


@pytest.mark.slow
@every_family
def test_address_spaces_of_every_instantiation(family: str) -> None:
    """Arrays of fewer than 8 elements, which Metal is given as constants, among them."""
    with simulated() as run:
        for _ in FAMILIES[family].launches():
            pass
    texts = {launch.text for launch in run.launches}
    assert len(texts) == FAMILIES[family].texts
    assert {address_space_errors(text) for text in texts} == {""}


# --- sanitizers


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", SANITIZERS)
@every_family
def test_sanitizers_find_nothing(sanitizer: Sanitizer, family: str) -> None:
    """The default tests of a family once more, every instantiation in them."""
    file = str(HERE / FAMILIES[family].tests)
    done = run_sanitized(sanitizer, "-m", "pytest", "-q", "-x", file)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


# --- mutants


@every_kernel
def test_every_barrier_and_array_has_its_fault(kernel: Kernel) -> None:
    text, *headers = (
        (METAL / file).read_text() for file in (f"{kernel.name}.metal", *kernel.headers)
    )
    barriers = sum(part.count("threadgroup_barrier(") for part in (text, *headers))
    assert sum(fault.old.startswith("threadgroup_barrier") for fault in kernel.faults) == barriers
    body = text.partition("\n// kernel\n")[2]
    arrays = [line for line in body.splitlines() if line.strip().startswith("threadgroup ")]
    assert sum(fault.old.endswith("];") for fault in kernel.faults) == len(arrays)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant", [mutant for kernel in KERNELS for mutant in kernel.mutants(None)], ids=str
)
def test_a_fault_is_noticed(mutant: Mutant) -> None:
    assert mutant.noticed(), f"{mutant}: nothing showed it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "sanitizer"),
    [
        (name, sanitizer)
        for name, family in FAMILIES.items()
        for sanitizer in SANITIZERS
        if tried(family.kernels, sanitizer)
    ],
)
def test_faults_that_a_sanitizer_notices(family: str, sanitizer: Sanitizer) -> None:
    """Every mutant that needs the sanitizer is noticed under it, and a kernel without fault not."""
    done = run_sanitized(sanitizer, str(HERE / "families.py"), family, sanitizer)
    lines = [line.split(" | ", 1) for line in done.stdout.splitlines() if " | " in line]
    found, kernels = dict(lines), FAMILIES[family].kernels
    for mutant in tried(kernels, sanitizer):
        assert str(mutant) in found, f"{mutant}: not tried; {done.stderr[-2000:]}"
        assert found[str(mutant)] != "None", f"{mutant}: nothing showed it"
    for control in controls(kernels, sanitizer):
        assert found[str(control)] == "None", f"{control}: {found[str(control)]}"
