"""`eval`: every case answered, every answer compared, and a table of what was right."""

from .. import options as shared
from ..parameters import flattened
from ..settings_options import ModeOptions, SamplerOptions
from . import options


@flattened(without=options.EACH, last=("dtype", "offline", "force", "no_tune", "gentle"))
def command(
    model: shared.ModelOptions,
    cases: options.CaseOptions,
    ways: options.WayOptions,
    sampler: SamplerOptions,
    mode: ModeOptions,
    result: options.ResultOptions,
) -> int:
    """Measure a model's accuracy on cases: by steps, by mode, and by skill where lines name one.

    A line of --data has messages of which the last is the right answer, or prompt and completion,
    or expected beside a question. Ctrl-C prints the table of what is finished.
    """
    from ..record.outfile import STDOUT, Taken, Wanted, open_files, taken_by
    from .work import ANSWERS, Job, evaluate

    job = Job(model, cases, ways.ways(sampler, mode), ways.seeds)
    wanted = Wanted("--out", result.out, ANSWERS) if result.out else None
    reads = [*taken_by(model.name, data=cases.file)]
    if result.as_json:
        reads.append(Taken("--json", STDOUT))
    with open_files([wanted], reads, overwrite=result.overwrite) as (out,):
        return evaluate(job, out, as_json=result.as_json)
