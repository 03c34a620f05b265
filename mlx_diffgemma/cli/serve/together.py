"""The model behind `serve`: on this Mac, or on several that answer together."""

import time
from dataclasses import dataclass
from pathlib import Path

import typer

from ...checkpoint.hub import Source
from ...conversation.session import Session
from ...errors import ShareError
from ...serve.engine.engine import Cancellation, Engine
from ...serve.engine.loaded import LoadedEngine
from ...serve.engine.together import Leading
from ...serve.engine.worker import Pulse, Worker
from ...serve.http.run import Running
from ...share.jobs import BEAT, Jobs
from ...share.part import Cut, Part
from ..answer.loading import load_found
from ..explain import explain
from ..macs.group import Group, end_at_once
from ..macs.loading import load_found_together
from ..options import ModelOptions
from ..terminal.streams import say

TOLD_SECONDS = 0.5  # that clients have to hear that their answer has ended


@dataclass
class Origin:
    """A model that was found and agreed on. worker, running: of the server, once they are there;
    over: why the Macs answer no more.
    """

    group: Group
    options: ModelOptions
    source: Source
    cut: Cut
    worker: Worker | None = None
    running: Running | None = None
    over: BaseException | None = None
    leading: Leading | None = None

    @property
    def folder(self) -> Path:
        """The folder of the checkpoint."""
        return self.source.folder

    @property
    def part(self) -> Part:
        """This Mac's part of the network."""
        return Part(self.group.share, self.cut)

    @property
    def jobs(self) -> Jobs:
        """The way from rank 0 to the others, whose watch never rests: rank 0 shows life."""
        return Jobs(self.group.share)

    def read(self) -> Session:
        """The weights, loaded; an error behind the first loading is said, since that ends none."""
        try:
            if self.group.share.alone:
                return load_found(self.source, self.options, self._look)
            return load_found_together(self.group, self.source, self.options, self.cut)
        except Exception as error:
            if self.worker and self.worker.loaded.done() and (known := explain(error)):
                say(known[0])
            raise

    def engine(self, loaded: LoadedEngine) -> Engine:
        """The engine of the server; on several Macs rank 0's."""
        if self.group.share.alone:
            return loaded
        self.leading = Leading(loaded, self.part, self.jobs, self._lost)
        return self.leading

    def pulse(self) -> Pulse | None:
        """The signs of life of rank 0, and how it ends where another Mac gives none."""
        if self.leading is None or self.group.watch is None:
            return None
        self.group.watch.end = self._hung
        return Pulse(BEAT, self.leading.beat)

    def ended(self) -> None:
        """Let the other Macs end, too."""
        if self.leading is not None:
            self.leading.end()

    def require_whole(self) -> None:
        """End with the exit code of a lost Mac, of which a line was said; else nothing."""
        if self.over is None:
            return
        if (known := explain(self.over)) is None:
            raise self.over
        raise typer.Exit(known[1])

    def _look(self) -> None:
        if self.worker and self.worker.is_stopping():
            raise Cancellation

    def _lost(self, error: BaseException) -> None:
        """End the server, and say why: by then mlx.launch may have ended this process, too."""
        self.over = error
        if known := explain(error):
            say(known[0])
        if self.worker:
            self.worker.stop()
        if self.running:
            self.running.stop()

    def _hung(self, line: str) -> None:
        """End the process, whose worker waits for a Mac that does not answer."""
        if self.worker:
            self.worker.give_up(ShareError(line, lost=True))
            time.sleep(TOLD_SECONDS)
        end_at_once(line)
