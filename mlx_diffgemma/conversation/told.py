"""What is told of a turn: its Reply, what it was shown, and the loop that it may have ended in."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import mlx.core as mx

from ..autoregressive.lookup import Lookup
from ..autoregressive.repetition import repeats
from ..autoregressive.router import Router
from ..images.pixels import Pixels
from ..images.video import Clip
from ..kernels import dispatch
from ..text.answer import Answer
from ..text.placeholders import Medium
from ..version import __version__
from .reply import ImageInfo, LookupInfo, Reply, RouterInfo, VideoInfo, share_info

if TYPE_CHECKING:
    from .turn import Turn


def reply_of(turn: "Turn", answer: Answer, count: int) -> Reply:
    """The Reply to a turn as far as it has come; count: of generated tokens."""
    segments, session = turn.segments, turn.session
    steps = tuple(frame.step + 1 for frame in segments.denoised)
    return Reply(
        text=answer.text,
        thinking=answer.thinking,
        tool_calls=answer.tool_calls,
        token_ids=tuple(segments.ids),
        finish_reason=segments.finish_reason or "interrupted",
        seed=turn.settings.seed or 0,
        prompt_tokens=len(turn.prompt_ids),
        images=turn.images,
        videos=turn.videos,
        puzzle=turn.puzzle,
        mode=turn.settings.mode,
        segments=segments.told(),
        router=turn.router_info,
        lookup=lookup_info(turn.lookup),
        constraint=turn.constraint_info,
        generated_tokens=count,
        canvases=len(steps),
        steps=steps,
        tokens_per_step=_ratio(sum(frame.num_denoised for frame in segments.denoised), sum(steps)),
        seconds=segments.seconds(session.load_seconds),
        tokens_per_second=_ratio(count, segments.total),
        positions_per_second=_positions_per_second(turn),
        peak_memory_bytes=mx.get_peak_memory(),
        sampler=turn.sampler,
        model=session.info,
        share=share_info(session.model.part),
        adapter=session.adapter,
        tuned=session.tuned,
        kernels="metal" if dispatch.running() else "ops",
        version=__version__,
    )


def images_of(media: Sequence[Medium]) -> tuple[ImageInfo, ...]:
    """The images among what a question shows."""
    return tuple(
        ImageInfo(m.soft_tokens, m.width, m.height) for m in media if isinstance(m, Pixels)
    )


def videos_of(media: Sequence[Medium]) -> tuple[VideoInfo, ...]:
    """The videos among what a question shows."""
    return tuple(
        VideoInfo(len(m.frames), m.soft_tokens, m.seconds) for m in media if isinstance(m, Clip)
    )


def router_info(router: Router | None) -> RouterInfo | None:
    """The times and decisions of mode auto so far; None in other modes."""
    if router is None:
        return None
    times = router.times
    return RouterInfo(
        step_ms=times.step_ms,
        token_ms=times.token_ms,
        commit_ms=times.commit_ms,
        length_factor=router.length_factor,
        source=times.source,
        decisions=tuple(router.decisions),
    )


def lookup_info(lookup: Lookup | None) -> LookupInfo | None:
    """What was drafted from earlier text; None where it was not asked for."""
    if lookup is None:
        return None
    return LookupInfo(lookup.drafted, lookup.accepted, lookup.passes)


def loops(turn: "Turn") -> Iterator[str]:
    """A line about the loop that an answer by mode ar or auto ends in, if it does."""
    period = repeats(turn.segments.ids) if turn.settings.mode != "diffusion" else None
    if period is not None:
        each = "each token" if period == 1 else f"the same {period} tokens"
        yield f"the answer ends in a loop, {each} again and again; try another seed."


def _positions_per_second(turn: "Turn") -> float | None:
    """Whole canvases by the time; None where tokens were written one by one."""
    canvases = len(turn.segments.denoised)
    written = turn.settings.mode == "ar" or len(turn.segments.kept) > canvases
    C = turn.session.model.config.canvas_length
    return None if written else _ratio(C * canvases, turn.segments.total)


def _ratio(count: float, by: float) -> float | None:
    """A rate; None where nothing was measured."""
    return count / by if by else None
