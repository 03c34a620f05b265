"""`calibrate`: labelled rows read once, temperatures fitted, and the honesty of both told."""

from .. import options as shared
from ..decide.options import SettingOptions
from ..parameters import flattened
from ..terminal.passing import LOADING_PROGRAM, Announced
from . import options


@flattened(without=options.EACH, last=("dtype", "offline", "force", "no_tune", "gentle"))
def command(
    given: options.LabelledOptions,
    settings: SettingOptions,
    model: shared.ModelOptions,
) -> int:
    """Fit temperatures to questions with known answers, for `decide --calibration`.

    50 answers or more of a type are needed, 200 are better. What was read is kept in FILE.reads, so
    that a run goes on where another one was interrupted.
    """
    with Announced(LOADING_PROGRAM):
        from ..record.outfile import Taken, Wanted, open_files, taken_by
        from .kept import READS, reads_file
        from .work import CALIBRATION, Job, calibrate

    file = given.file
    job = Job(model, given, settings.values())
    rows = job.rows()
    taken = [*taken_by(model.name), Taken("LABELLED", given.labelled)]
    wanted = [Wanted("-o", file, CALIBRATION), Wanted("-o", reads_file(file), READS)]
    with open_files(wanted, taken, overwrite=given.overwrite) as (out, reads):
        assert out is not None
        assert reads is not None
        return calibrate(job, rows, out, reads)
