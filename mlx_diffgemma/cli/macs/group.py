"""The processes that answer together: they meet, rank 0 alone speaks, and they end together."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import typer

from ...errors import DiffGemmaError, ShareError, one_line
from ...machine.files import parse_json
from ...share.guard import Watch, from_rank_0, is_lost, lost_macs
from ...share.share import ALONE, Share, announced, met
from ..errors import LINK_LOST, ArgumentError
from ..explain import explain
from ..terminal.signals import raise_lost
from .ended import NAMES, code_file, leave_code
from .options import Asked, ShareOptions, link_seconds
from .terminal import take_streams

T = TypeVar("T")

LOADING_SECONDS = 900.0  # that Macs may be apart when they load, from unlike disks
# The exit code of a rank for which rank 0 speaks: mlx.launch ends all ranks once one has another,
# and rank 0 may not have printed all.
UNHEARD = 0


@dataclass(frozen=True)
class Group:
    """This process's place among those that answer together; asked: None for one that is alone."""

    share: Share = ALONE
    asked: Asked | None = None
    watch: Watch | None = None

    def of_rank_0(self, read: Callable[[], T]) -> T:
        """What `read` gives on rank 0, a value of JSON; the other ranks read nothing.

        Where it fails, rank 0 says why, and the others end without a word.
        """
        if self.share.alone:
            return read()
        failed, said = None, b""
        if self.share.rank == 0:
            try:
                said = json.dumps([read()]).encode()
            except Exception as error:
                failed, said = error, json.dumps([]).encode()
        read_there = parse_json(from_rank_0(self.share, said))
        if failed:
            raise failed
        if not read_there:
            raise typer.Exit(UNHEARD)
        answer: T = read_there[0]
        return answer

    def alive(self) -> None:
        """Tell the watch that work goes on."""
        self.share.alive()

    def code(self, code: int) -> int:
        """This rank's exit code, given that of its answer: rank 0's counts."""
        return code if self.share.rank == 0 else UNHEARD

    @contextmanager
    def agreeing(self, own: tuple[type[DiffGemmaError], ...] = ()) -> Iterator[None]:
        """An error that all ranks find in the same words is said by rank 0 alone.

        A lost Mac is none of these, nor is what is `own` to a Mac, such as its memory.
        """
        try:
            yield
        except DiffGemmaError as error:
            if self.share.rank == 0 or is_lost(error) or isinstance(error, own):
                raise
            raise typer.Exit(UNHEARD) from None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Ranks may be apart for long inside: they load from unlike disks."""
        if self.watch is None:
            yield
            return
        usual, self.watch.seconds = self.watch.seconds, max(LOADING_SECONDS, self.watch.seconds)
        yield
        from_rank_0(self.share, b"loaded")
        self.watch.seconds = usual
        self.watch.alive()


@contextmanager
def joined(given: ShareOptions) -> Iterator[Group]:
    """The group that a command runs in; the group of one where none is asked for.

    ArgumentError for --share without other processes. Where another Mac is lost, or does not answer
    in time, the process ends with LINK_LOST and a line that names it.
    """
    if given.wanted is None:
        yield Group()
        return
    with meeting(f"--share {given.wanted}", given.wanted) as group:
        yield group


@contextmanager
def meeting(wanted: str, asked: Asked | None = None) -> Iterator[Group]:
    """The group of the processes that mlx.launch has started, once all of them are there.

    wanted: what was typed that needs them.
    """
    share = _named(announced(os.environ))
    if share.alone:
        raise ArgumentError(
            f"{wanted} is for several Macs, and there is one process; --macs FILE starts one on "
            "each Mac, or `mlx.launch --hostfile FILE -- mlx-diffgemma ...` does."
        )
    watch = Watch(share, link_seconds(), end_at_once)
    if share.rank == 0:
        take_streams()
    with one_voice(share):
        share = met(replace(share, alive=watch.alive), watch.seconds, code_file())
        watch.alive()
        yield Group(share, asked, watch)
        watch.stop()


def _named(share: Share) -> Share:
    """The share with the Macs' names, as far as the hostfile of --macs has told them."""
    names = tuple(filter(None, os.environ.get(NAMES, "").split(",")))
    return replace(share, hosts=names) if len(names) == share.size else share


def end_at_once(line: str) -> None:
    """End the process at once, whose main thread waits for another Mac and cannot be woken."""
    leave_code(LINK_LOST)
    os.write(2, f"error: {one_line(line)}\n".encode())
    os._exit(LINK_LOST)


@contextmanager
def one_voice(share: Share) -> Iterator[None]:
    """Rank 0 speaks as ever; another one only of its own errors, on standard error, by its name."""
    if share.rank == 0:
        with _lost(share):
            yield
        return
    out, err = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            with _lost(share):
                yield
        except KeyboardInterrupt:
            raise typer.Exit(UNHEARD) from None
        except Exception as error:
            if isinstance(error, typer.Exit) or (known := explain(error)) is None:
                raise
            print(f"{share.mac(share.rank)}: {known[0]}", file=err, flush=True)
            raise typer.Exit(known[1]) from None
        finally:
            sys.stdout, sys.stderr = out, err


@contextmanager
def _lost(share: Share) -> Iterator[None]:
    """A lost Mac as its error, but where a signal has ended all of them."""
    try:
        with lost_macs(share):
            yield
    except ShareError:
        raise_lost()
        raise
