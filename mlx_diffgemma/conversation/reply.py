"""Replies: an answer and how it came about, as `generate --json` prints them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..autoregressive.router import Decision
from ..checkpoint.config import ModelConfig
from ..errors import brief, counted
from ..generation.settings import Settings
from ..machine.choices import Choices
from ..share.part import Part
from ..text.tools import ToolCall


class Record:
    """Fields that can be read as attributes or, as in the JSON, by name."""

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]


@dataclass(frozen=True)
class Seconds(Record):
    """Wall times. load: before the session; the last three count from the question.

    denoise, commit: of canvases; write: of the tokens of mode ar. first_canvas, first_token: to the
    first finished canvas and to the first token of mode ar; None where none came.
    """

    load: float
    prefill: float
    denoise: float
    commit: float
    write: float
    first_canvas: float | None
    first_token: float | None
    total: float


@dataclass(frozen=True)
class TokenInfo(Record):
    """The sampling of single tokens a reply was made with."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float


@dataclass(frozen=True)
class SamplerInfo(Record):
    """The sampler a reply was made with; ar: that of single tokens, None in mode diffusion.

    The others are of canvases; in mode ar they are the checkpoint's, and nothing uses them.
    """

    max_tokens: int
    max_denoising_steps: int
    entropy_bound: float
    t_min: float
    t_max: float
    stability_threshold: int
    confidence_threshold: float
    stop: tuple[str, ...]
    exact_self_conditioning: bool
    ar: TokenInfo | None


def describe_sampler(settings: Settings, config: ModelConfig, max_tokens: int) -> SamplerInfo:
    """The sampler as a Reply tells of it; what is not set is the checkpoint's."""
    resolved = settings.resolved(config, 0)
    return SamplerInfo(
        max_tokens=max_tokens,
        stop=settings.stop,
        exact_self_conditioning=settings.exact_self_conditioning,
        ar=None if settings.mode == "diffusion" else TokenInfo(**asdict(resolved.tokens)),
        **asdict(resolved.sampler),
    )


@dataclass(frozen=True)
class Segment(Record):
    """A canvas, or the tokens of mode ar between two of its commits; steps: None in mode ar.

    tokens: those kept, so none of a canvas that was interrupted, as the last one may be.
    """

    mode: str
    tokens: int
    steps: int | None
    seconds: float


@dataclass(frozen=True)
class RouterInfo(Record):
    """The times that mode auto decided by, and what it decided, a segment each.

    As `auto_times` the first three decide the same again.
    """

    step_ms: float
    token_ms: float
    commit_ms: float
    length_factor: float
    source: str
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class LookupInfo(Record):
    """Tokens that were drafted from earlier text, those of them accepted, and passes over many."""

    drafted: int
    accepted: int
    passes: int


@dataclass(frozen=True)
class ConstraintInfo(Record):
    """The form that an answer was held to, and how far that was from the model's own text.

    kind: "schema", "pattern", "choices" or "tools"; of a text or calls in its place, the text's.
    strain: -log of the probability that the model gives to all that the form allows, in nats, at
    least 0: of a canvas that of its last step, under the step's temperature; of tokens in mode ar
    the sum of their own, before temperature and cuts. The largest of the canvases, and in mode auto
    of the tokens together as well; None where nothing was finished. canvases, and those of them
    that settled before the steps ran out: None in mode ar.
    """

    kind: str
    strain: float | None
    settled: int | None
    canvases: int | None


@dataclass(frozen=True)
class ModelInfo(Record):
    """The model a reply was made with; quantization is None for floating-point weights."""

    path: str
    revision: str | None
    quantization: str | None
    layers: int
    parameters: int


@dataclass(frozen=True)
class ImageInfo(Record):
    """An image of a question: its soft tokens, and its size in pixels as given, upright."""

    tokens: int
    width: int
    height: int


@dataclass(frozen=True)
class VideoInfo(Record):
    """A video of a question: frames that the model saw, their soft tokens, and its length."""

    frames: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class ShareInfo(Record):
    """How several Macs answered together: mode, which is the cut, and their number."""

    mode: str
    size: int


def share_info(part: Part) -> ShareInfo | None:
    """The ShareInfo of a network's part; None for a Mac alone."""
    return None if part.share.alone else ShareInfo(part.cut, part.share.size)


@dataclass(frozen=True)
class Fresh:
    """A piece of an answer: text, thought, and calls, all of them final."""

    text: str = ""
    thought: str = ""
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class Reply:
    """An answer and how it came about.

    token_ids include the stop id, as generated_tokens counts it. images and videos are those of the
    question, not of earlier ones; prompt_tokens count the soft tokens of all. puzzle: the problem
    that a checkpoint with a task was given, as typed or as read in a picture, else None.
    mode: the one asked for. canvases, steps and tokens_per_step count diffusion alone and are 0,
    empty and None without any. tokens_per_step is tokens per decoder pass; tokens_per_second counts
    prefill, positions_per_second whole canvases, None where tokens were written one by one. router:
    of mode auto; lookup: where it was asked for; constraint: where the answer has a form.
    kernels: "metal" where Metal kernels of this package run, of any family, else "ops". share: None
    where one Mac answered alone. adapter: the folder of the one that is applied. tuned: what was
    chosen for this machine, None for the engine's own behaviour.
    """

    text: str
    thinking: str | None
    tool_calls: tuple[ToolCall, ...]
    token_ids: tuple[int, ...]
    finish_reason: str
    seed: int
    prompt_tokens: int
    images: tuple[ImageInfo, ...]
    videos: tuple[VideoInfo, ...]
    puzzle: str | None
    mode: str
    segments: tuple[Segment, ...]
    router: RouterInfo | None
    lookup: LookupInfo | None
    constraint: ConstraintInfo | None
    generated_tokens: int
    canvases: int
    steps: tuple[int, ...]
    tokens_per_step: float | None
    seconds: Seconds
    tokens_per_second: float | None
    positions_per_second: float | None
    peak_memory_bytes: int
    sampler: SamplerInfo
    model: ModelInfo
    share: ShareInfo | None
    adapter: str | None
    tuned: Choices | None
    kernels: str
    version: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._facts())})"

    def _facts(self) -> Iterator[str]:
        """The text, in short, and what one asks of it first."""
        yield brief(self.text)
        yield counted(self.generated_tokens, "token")
        if self.steps:
            yield counted(sum(self.steps), "step")
        if self.mode != "diffusion":
            yield f"mode {self.mode}"
        yield self.finish_reason

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values, in the order of the fields; what is not finite is None."""
        content: dict[str, Any] = _finite(asdict(self))
        return content


def _finite(value: Any) -> Any:
    """A value of asdict's without infinities and NaN, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return type(value)(map(_finite, value)) if isinstance(value, list | tuple) else value


@dataclass(frozen=True, repr=False)
class Filled(Reply):
    """A filled template, and how it came about, as `fill --json` prints it.

    text: the template with its holes filled, holes: what they came to. token_ids are those of the
    text; generated_tokens, and the rates per token, count those in the holes alone. fields: the
    texts of the holes that have names.
    """

    holes: tuple[str, ...]
    fields: Mapping[str, str]

    def _facts(self) -> Iterator[str]:
        text, *others = super()._facts()
        yield from (text, counted(len(self.holes), "hole"), *others)
