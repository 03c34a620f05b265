"""The same command on every Mac of a hostfile, started through mlx.launch; rank 0's exit code.

mlx.launch returns 0 whatever happened, leaves the ranks running when SIGTERM ends it, and says of a
rank that ended what the rank has said itself: it runs in a session of its own, and its ranks get
the signals that this process gets.
"""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import LINK_LOST, TERMINATED, ArgumentError, exit_code
from ..terminal.output import unwritten
from ..terminal.streams import say
from .hostfile import LOCAL, Hostfile, read_hostfile
from .launcher import EXIT, PATIENCE, launching
from .options import ShareOptions, link_seconds
from .ports import own_ports
from .ranks import Ranks, code_in
from .terminal import NONE, Streams, offered, shown_on

SSH_FAILED = (127, 255)  # no such command there, or here; an error of ssh, which is not heard


def launch(given: ShareOptions, arguments: Sequence[str], patience: float = PATIENCE) -> int:
    """Run the command with `arguments` on the Macs of --macs; the exit code of rank 0.

    patience: seconds that ranks may take to end behind a signal. LINK_LOST where rank 0 left none,
    since it was killed or never started, and where it was ended by mlx.launch, which does so when
    another rank fails. A terminal that this process writes to is rank 0's, where that is here.
    """
    hosts = _hosts(given)
    here = hosts.hosts[0].ssh == LOCAL
    return _run(hosts, arguments, lambda folder: shown_on() if here else NONE, patience)


def launch_at_terminal(given: ShareOptions, arguments: Sequence[str]) -> int:
    """As `launch`, for a command that people type into: rank 0 has this process's terminal.

    Ctrl-C is rank 0's to answer, and ends nothing by itself. ArgumentError where rank 0 is not on
    this Mac.
    """
    hosts = _hosts(given)
    if (first := hosts.hosts[0].ssh) != LOCAL:
        raise ArgumentError(
            f"--macs: {hosts.file} has {first} as its first host, expected {LOCAL}, this Mac: it "
            "is where you type; name it first."
        )
    return _run(hosts, arguments, offered, at_terminal=True)


def _hosts(given: ShareOptions) -> Hostfile:
    """The Macs that are asked for, once all that is wrong with it here has been said."""
    assert given.macs is not None
    hosts = read_hostfile(given.macs)
    link_seconds()
    return hosts


def _run(
    hosts: Hostfile,
    arguments: Sequence[str],
    offer: Callable[[Path], Streams],
    patience: float = PATIENCE,
    *,
    at_terminal: bool = False,
) -> int:
    """Start the ranks, and wait for them; the exit code.

    offer: given a folder of this run, rank 0's standard streams. BrokenPipeError where nobody reads
    the answer, FileError where it cannot be written.
    """
    with TemporaryDirectory() as folder, own_ports(hosts.addresses) as port:
        streams, file = offer(Path(folder)), Path(folder) / EXIT
        if streams.environment:  # Ctrl-Z would leave rank 0 at the terminal beside a shell
            signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        command = launching(hosts, port, Path(folder), arguments, streams.environment)
        ranks = Ranks(command, at_terminal=at_terminal)
        try:
            ranks.wait(file, patience)
        except KeyboardInterrupt as interrupt:
            left = code_in(file)
            return exit_code(interrupt) if left is None else left
        if ranks.unwritten is not None:
            raise unwritten(ranks.unwritten)
        return _code(hosts, ranks, code_in(file))


def _code(hosts: Hostfile, ranks: Ranks, left: int | None) -> int:
    """The exit code, given the one that rank 0 left; why it counts for nothing is said."""
    if left not in (None, TERMINATED):
        return left
    ended = list(_endings(hosts, ranks))
    if left is None and not ended:
        ended = [_silent(hosts)]
    for line in ended:
        say(f"error: {line}")
    return LINK_LOST


def _silent(hosts: Hostfile) -> str:
    """The sentence about a rank 0 that left nothing, and of which mlx.launch knows nothing."""
    advice = "look at the lines above"
    if (first := hosts.names[0]) != LOCAL:
        advice = f"{advice}, and name this Mac {LOCAL}, the first of the hosts"
    return (
        f"rank 0 ({first}) of {hosts.file} ended without an exit code: it was killed, or did not "
        f"start; {advice}."
    )


def _endings(hosts: Hostfile, ranks: Ranks) -> Iterator[str]:
    """The ranks that mlx.launch has ended the others for: a sentence for each."""
    for rank, code in ranks.ended:
        name, where = hosts.names[rank], "see what happened there"
        if name != LOCAL and code in SSH_FAILED:
            where = f"see whether `{shlex.join(['ssh', name, sys.executable, '-V'])}` works"
        yield (
            f"rank {rank} ({name}) ended with code {code}, and mlx.launch ended the others; "
            f"{where}, and start again."
        )
