"""The way on from an answer that was cut, or that is wrong: what to do depends on the cause."""

from collections.abc import Iterable

from ...conversation.turn import Turn
from ...errors import counted
from ...generation.frame import Frame


def after_cut(turn: Turn, in_chat: bool) -> str | None:
    """One line on an answer that ended for want of tokens; None where it came to its own end."""
    reply = turn.reply()
    if reply.finish_reason != "length":
        return None
    limit = turn.sampler.max_tokens
    more = _more_tokens(turn)
    cut = f"cut at {counted(limit, 'token')}"
    if more <= limit:
        keep = "/save FILE keeps the conversation, /reset begins another one"
        return f"{cut}, the context is full; {keep if in_chat else 'shorten the prompt'}."
    if in_chat:
        return f"{cut}; /more goes on."
    return f"{cut}; --max-tokens {more} --seed {reply.seed} gives the same and what follows."


def kept_words(kept: Iterable[Frame], asked: str, none: str = "no") -> str:
    """The part of an interrupted answer that there is: finished canvases, and tokens of mode ar.

    kept: its segments, as a Turn has them; asked: the mode asked for; none: the word for 0.
    """
    kept = list(kept)
    canvases = sum(frame.mode == "diffusion" for frame in kept)
    tokens = sum(len(frame.tokens) for frame in kept if frame.mode == "ar")
    parts = [f"{counted(canvases, 'canvas')} finished"] if canvases else []
    parts += [f"{counted(tokens, 'token')} kept"] if tokens else []
    return ", ".join(parts) or f"{none} {'tokens kept' if asked == 'ar' else 'canvases finished'}"


def refusal(turn: Turn, in_chat: bool = False) -> str | None:
    """One line on an answer that does not solve its puzzle; None where it does."""
    problem = turn.problem()
    if problem is None:
        return None
    return f"not a valid solution: {problem}; {after_wrong(turn, in_chat)}"


def after_wrong(turn: Turn, in_chat: bool) -> str:
    """The way on from an answer that does not solve its puzzle."""
    if cut := after_cut(turn, in_chat):
        return cut
    if turn.task and turn.puzzle and turn.task.unsolvable(turn.puzzle):
        return "the puzzle has no solution: correct what is given."
    steps, usual = turn.sampler.max_denoising_steps, turn.session.model.config.sampler
    if turn.reply().steps[-1:] == (steps,) and steps < usual.max_denoising_steps:
        start = "start chat with" if in_chat else "try"
        return f"it ran out of steps: {start} more --steps than {steps}."
    return "/seed new, then ask again." if in_chat else "try another --seed."


def _more_tokens(turn: Turn) -> int:
    """Twice as many tokens, or as many as the context holds; of mode diffusion whole canvases."""
    config = turn.session.model.config
    C = config.canvas_length if turn.settings.certain_mode == "diffusion" else 1
    context = config.text.max_position_embeddings
    fitting = (context - len(turn.prompt_ids)) // C
    return C * min(fitting, -(-2 * turn.sampler.max_tokens // C))
