"""What holds for all tests: on what they run, and which signals reach them."""

import os
import random
import secrets
import signal
from collections.abc import Iterator

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
