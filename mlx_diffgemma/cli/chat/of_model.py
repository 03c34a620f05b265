"""Chat's commands about the model: which one, in which mode, by which seed, and how it went."""

from collections.abc import Iterator
from dataclasses import replace

from ...conversation.reply import Reply
from ...errors import SettingsError, counted
from ...generation.settings import MODES
from ...model.memory import sized
from ..answer.turn import summary
from ..errors import ArgumentError
from ..explain import OPTION_OF
from ..terminal.steps import printable
from ..terminal.streams import say, tell
from .switch import greeting, switch
from .talk import Talk

MODE_MEANS = {
    "diffusion": "canvas by canvas",
    "ar": "token by token",
    "auto": "what should take less time, canvas by canvas or token by token",
}


def model(talk: Talk, argument: str) -> None:
    """Show the model, or go on with another one."""
    if argument:
        switch(talk, argument)
    packed = talk.session.info.quantization
    say(f"model: {greeting(talk.session)}, {packed or 'not quantised'}.")


def think(talk: Talk, argument: str) -> None:
    """Show the last thought, or let the model think or not."""
    if argument in ("on", "off"):
        talk.think = argument == "on"
        say(f"thinking is {argument}.")
    elif argument:
        raise ArgumentError(f"/think takes on, off or nothing, got {argument!r:.40}.")
    elif talk.last is None or talk.last.thinking is None:
        state = "on" if talk.think else "off; /think on changes that"
        say(f"no thought in the last answer; thinking is {state}.")
    else:
        for line in talk.last.thinking.splitlines():
            tell(printable(line))


def mode(talk: Talk, argument: str) -> None:
    """Show or set the mode."""
    if argument and argument not in MODES:
        raise ArgumentError(f"/mode takes {', '.join(MODES)} or nothing, got {argument!r:.40}.")
    if argument:
        try:
            talk.set_mode(argument)
        except SettingsError as error:
            raise ArgumentError(error.told({"mode": "/mode"})) from None
    say(f"mode: {talk.settings.mode}, {MODE_MEANS[talk.settings.mode]}.")
    if resting := [typed for n in talk.resting if (typed := OPTION_OF[n]) not in talk.noted]:
        talk.noted.update(resting)
        say(f"note: not used in mode {talk.settings.mode}: {', '.join(resting)}.")


def seed(talk: Talk, argument: str) -> None:
    """Show or set the seed."""
    if argument:
        try:
            seed = None if argument == "new" else int(argument)
            talk.settings = replace(talk.settings, seed=seed)
        except ValueError:  # SettingsError, too
            raise ArgumentError(
                f"/seed takes a number from 0 to {2**64 - 1} or new, got {argument!r:.40}."
            ) from None
    seed = talk.settings.seed
    last = f"; the last answer's is {talk.last.seed}" if talk.last else ""
    say(f"seed: {'a new one for each answer' if seed is None else seed}{last}.")


def stats(talk: Talk, argument: str) -> None:
    """Show the numbers of the last answer, and the context used."""
    used, length = talk.session.context_used, talk.session.context_length
    say(f"context: {used:,} of {length:,} positions ({used / length:.1%})")
    if talk.session.adapter:
        say(f"adapter: {talk.session.adapter}")
    reply = talk.last
    if reply is None:
        say("no answer yet.")
        return
    say(summary(reply))
    for line in _of_modes(reply):
        say(line)
    seconds = reply.seconds
    seen = sum(image.tokens for image in reply.images) + sum(v.tokens for v in reply.videos)
    of_media = f", {seen:,} of them soft" if seen else ""
    say(
        f"prompt {counted(reply.prompt_tokens, 'token')}{of_media}; seconds: prefill "
        f"{seconds.prefill:.2f}, denoise {seconds.denoise:.2f}, commit {seconds.commit:.2f}"
        f"{f', write {seconds.write:.2f}' if reply.mode != 'diffusion' else ''}"
    )
    say(f"peak memory {sized(reply.peak_memory_bytes)}, finish reason {reply.finish_reason}")


def _of_modes(reply: Reply) -> Iterator[str]:
    """A line on canvases, one on tokens written one by one, and those on what chose between."""
    if reply.canvases or reply.mode == "diffusion":
        rate = f", {reply.tokens_per_step:.1f} tokens a step" if reply.tokens_per_step else ""
        steps = ", ".join(map(str, reply.steps)) or "none"
        yield f"{counted(reply.canvases, 'canvas')}, steps {steps}{rate}"
    written = sum(segment.tokens for segment in reply.segments if segment.mode == "ar")
    if written and reply.seconds.write:
        rate = f"{written / reply.seconds.write:.1f} tokens/s"
        yield f"{counted(written, 'token')} by ar, {rate} without the prompt"
    if (router := reply.router) is not None:
        last = router.decisions[-1] if router.decisions else None
        even = f", even at {last.break_even:.1f} steps a canvas" if last else ""
        yield (
            f"auto: {router.step_ms:.1f} ms a step, {router.token_ms:.1f} ms a token "
            f"({router.source}){even}"
        )
    if (lookup := reply.lookup) is not None:
        yield (
            f"lookup: {counted(lookup.drafted, 'token')} drafted, {lookup.accepted:,} accepted, in "
            f"{counted(lookup.passes, 'pass')}"
        )
