"""What holds for all tests: on what they run, and which signals reach them."""

import os
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest

# On a Mac, too, tests run on the CPU unless they are marked metal: tolerances are a CPU's, a kernel
# that loses its trial would warn, and simulated kernels cannot be called while MLX traces a layer,
# as it does for a GPU. A process that a test starts has the GPU all the same, without kernels.
mx.set_default_device(mx.cpu)
if mx.metal.is_available():
    os.environ.setdefault("MLX_DIFFGEMMA_KERNELS", "off")

# A machine may reach others through a proxy; what a test serves is on this machine.
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))

# A job in the background may be told to ignore Ctrl-C and its like, one under nohup a closed
# terminal, and children inherit that: the tests that send such a signal would wait in vain.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


MOST_WORKERS = 8  # each loads MLX, and some tests write checkpoints of their own


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Number of processes for `-n auto`: one a core; a single one for a GPU, the full weights, or
    the comparison with the reference, which ends with a summary of its own."""
    wanted = str(config.option.markexpr)
    alone = wanted.startswith(("metal", "weights", "reference", "tokenizer"))
    return 0 if alone else min(os.cpu_count() or 1, MOST_WORKERS)


@pytest.fixture(autouse=True)
def gpu_where_it_is_asked_for(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests marked metal run on the GPU."""
    if not request.node.get_closest_marker("metal"):
        yield
        return
    mx.set_default_device(mx.gpu)
    yield
    mx.set_default_device(mx.cpu)


@pytest.fixture(autouse=True)
def same_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds nobody chose are the same in every run, so that a test passes always or never."""
    monkeypatch.setattr(secrets, "randbits", random.Random(0).getrandbits)


SCRIPT = Path(__file__).parents[1] / "scripts" / "gemma_tokenizer.py"
UNREACHABLE = 3  # the script's exit code where the package cannot be had


@pytest.fixture(scope="session")
def real_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the released model's tokenizer.

    $MLX_DIFFGEMMA_TOKENIZER, or made once by scripts/gemma_tokenizer.py, in pytest's cache where it
    has one. Skipped where the script cannot reach a registry; any other failure of it is one here.
    """
    if given := os.environ.get("MLX_DIFFGEMMA_TOKENIZER"):
        return Path(given)
    cache = getattr(pytestconfig, "cache", None)
    folder = cache.mkdir("gemma") if cache else tmp_path_factory.mktemp("gemma")
    made = Path(folder, "tokenizer")
    ran = subprocess.run([sys.executable, SCRIPT, made], capture_output=True, text=True)
    said = (ran.stderr.splitlines() or [f"exit code {ran.returncode}"])[-1]
    if ran.returncode == UNREACHABLE:
        pytest.skip(f"nothing was read with the released vocabulary: {said}")
    if ran.returncode:
        pytest.fail(said, pytrace=False)
    return made
