"""`finetune`: the arguments checked, and the work begun."""

from ..errors import ArgumentError
from ..options import ModelOptions
from ..parameters import flattened
from . import options


@flattened(without=("adapter", "no_tune", "gentle"), last=("dtype", "offline", "force"))
def command(
    *,
    model: ModelOptions,
    data: options.DataOptions,
    adapter: options.AdapterOptions,
    course: options.CourseOptions,
    place: options.PlaceOptions,
    output: options.StepsReport,
) -> int:
    """Train adapters for a model, or all its weights, on examples.

    Each step denoises canvases of some examples and lets the encoder predict their tokens, as the
    published training does. States are saved on the way: Ctrl-C keeps the last step, --resume goes
    on. mlx.launch trains with several processes.
    """
    if data.data is None and not place.plan:
        raise ArgumentError("--data is missing, expected a folder with train.jsonl, or a file.")
    from .work import Job

    job = Job(model, data, adapter, course, place)
    return job.plan(output.as_json) if place.plan else job.train(output.as_json)
