"""The examples of a run, read with a bar, and the batches made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...checkpoint.config import ModelConfig
from ...checkpoint.files import is_there
from ...finetune.data.batches import Batches, parse_mix
from ...finetune.data.examples import Examples, read_examples
from ...finetune.data.identity import data_identity
from ...finetune.data.lines import data_file
from ...finetune.objective import Batch
from ...finetune.ranks import Ranks
from ...finetune.recipe import Recipe
from ...text.tokenizer import Tokenizer, load_tokenizer
from ..terminal.progress import Bar
from ..terminal.streams import say
from .options import CourseOptions, DataOptions
from .text import notes

PLANNED_LENGTH = 1024  # tokens of an example where nothing says more


@dataclass(frozen=True)
class Data:
    """The batches of a run; facts: what is alike where a run continues another.

    longest: tokens of the longest example.
    """

    batches: Batches
    valid: Sequence[Batch]
    facts: Mapping[str, Any]
    longest: int


def read_data(
    options: DataOptions,
    course: CourseOptions,
    tokenizer: Tokenizer,
    config: ModelConfig,
    recipe: Recipe,
    ranks: Ranks,
) -> Data:
    """All examples that the options name; process 0 says what was left out of a file."""
    read = partial(_read, options, tokenizer, config, ranks)
    assert options.data is not None
    mixes = [parse_mix(each) for each in options.mix or ()]
    examples = read(options.data).examples
    mix = [(read(file).examples, share) for file, share in mixes]
    valid = read(data_file(options.valid, "valid")).examples if options.valid else ()
    batched = partial(
        Batches,
        size=course.batch,
        config=config,
        seed=recipe.seed,
        canvases=1 if course.canvases is None else course.canvases,
        mask_prompt=options.mask_prompt,
    )
    batches = batched(
        examples, mix=mix, parts=recipe.accumulate, rank=ranks.number, ranks=ranks.count
    )
    fixed = batched(valid) if valid and not ranks.number else None
    facts = {
        "data": f"{len(examples):,} examples, {data_identity(examples)}",
        "mix": [f"{len(each):,} examples, {data_identity(each)}: {share}" for each, share in mix],
        **{name: getattr(batches, name) for name in ("size", "canvases", "mask_prompt")},
        "processes": ranks.count,
    }
    longest = max(len(each.ids) for part in (examples, *(e for e, _ in mix)) for each in part)
    return Data(batches, _all(fixed) if fixed else (), facts, longest)


def length_of(options: DataOptions, folder: Path, config: ModelConfig) -> int:
    """The tokens of the longest example for a plan, without data --max-length or a usual number.

    folder: the checkpoint's, which may lack a tokenizer while only headers are fetched.
    """
    if options.data is None or not is_there(folder / "tokenizer.json"):
        return options.max_length or PLANNED_LENGTH
    examples = _read(options, load_tokenizer(folder), config, Ranks(), options.data).examples
    return max(len(each.ids) for each in examples)


def _all(batches: Batches) -> list[Batch]:
    """The batches that hold each example once, the last one some again."""
    return [batches.batch(step) for step in range(batches.epoch)]


def _read(
    options: DataOptions, tokenizer: Tokenizer, config: ModelConfig, ranks: Ranks, path: Path
) -> Examples:
    with Bar(f"reading {path.name}", in_bytes=True) as bar:
        examples = read_examples(
            path,
            tokenizer,
            config,
            max_length=options.max_length,
            truncate=options.truncate,
            progress=bar,
        )
    if not ranks.number:
        for line in notes(examples):
            say(line)
    return examples
