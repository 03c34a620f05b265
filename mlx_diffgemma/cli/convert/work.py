"""The work of `convert`: a source found and planned, a folder made of it, a folder checked."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...checkpoint import hub, remote
from ...checkpoint.cache import cache_place, nearest_folder
from ...checkpoint.download import Download
from ...convert.checks import check_target, output_bytes, require_room
from ...convert.plan import Plan, make_plan
from ...convert.quantize import Recipe
from ...convert.read import open_checkpoint
from ...convert.run import Reports, convert
from ...convert.state import unfinished_shards
from ...convert.verify import Verification, verify
from ...errors import HubError
from ...machine.awake import awake
from ..errors import exit_code
from ..models.consent import find
from ..models.fit import require_disk
from ..terminal.output import show
from ..terminal.progress import Bar, Bars
from ..terminal.streams import say
from . import text
from .options import CheckOptions, ConversionOptions


@dataclass(frozen=True)
class Job:
    """A checkpoint to convert, and the recipe for it."""

    source: str
    recipe: Recipe
    options: ConversionOptions

    def show_plan(self, as_json: bool) -> int:
        """A dry run; of a repository that is not on this machine only headers are fetched."""
        with remote.find_headers(self.source, revision=self.options.revision) as found:
            plan = self._plan(found, shape_only=True)
            show(text.describe_plan(plan), text.plan_lines(plan), as_json)
        return 0

    def convert(self, out: Path, check: CheckOptions, as_json: bool) -> int:
        """Make the folder `out`; an interrupt keeps the finished shards.

        A wrong `out` is found before anything is downloaded. The user has named the repository, so
        a download that fits on the disk needs no question.
        """
        check_target(hub.local_folder(self.source), out, self.options.overwrite)
        consent = partial(self._consent, out)
        found = find(self.source, consent=consent, revision=self.options.revision)
        plan = self._plan(found, shape_only=False)
        against = found.folder if check.against is None else hub.find_model(check.against).folder
        try:
            with awake(), Bar("converting", in_bytes=True) as bar:
                overwrite = self.options.overwrite
                result = convert(plan, out, overwrite=overwrite, reports=Reports(bar, say))
        except KeyboardInterrupt as interrupt:
            say(text.interrupted_line(unfinished_shards(out), plan))
            return exit_code(interrupt)
        checked = _verified(out, against) if check.verify else None
        show(
            text.describe_result(plan, result, checked),
            text.result_lines(plan, result, checked),
            as_json,
        )
        return 0

    def _plan(self, found: hub.Source, *, shape_only: bool) -> Plan:
        checkpoint = open_checkpoint(
            found.folder,
            name=self.source if found.revision else None,
            revision=found.revision,
            shape_only=shape_only,
        )
        return make_plan(checkpoint, self.recipe, requantize=self.options.requantize)

    def _consent(self, out: Path, download: Download) -> bool:
        """True where source and `out` fit on their disks, which is known before the download."""
        require_disk(download)
        place = nearest_folder(out.resolve().parent)
        one_disk = place.stat().st_dev == cache_place().stat().st_dev
        missing = download.missing_bytes if one_disk else 0
        require_room(out, place, self._output_bytes(), missing)
        return True

    def _output_bytes(self) -> int:
        """Bytes of a repository once converted; its headers say all that can be wrong.

        0 where headers cannot be fetched alone: the room is checked again after the download.
        """
        try:
            with remote.remote_headers(self.source, self.options.revision) as found:
                return output_bytes(self._plan(found, shape_only=True))
        except HubError:
            return 0


def check_folder(folder: Path, against: str | None, as_json: bool) -> int:
    """`--verify` with one folder."""
    source = None if against is None else hub.find_model(against).folder
    checked = _verified(hub.find_model(folder).folder, source)
    show(text.describe_check(checked), text.check_lines(checked), as_json)
    return 0


def _verified(folder: Path, against: Path | None) -> Verification:
    """The check with a bar for each of its parts."""
    with Bars("decoder") as bars:
        return verify(folder, against, bars)
