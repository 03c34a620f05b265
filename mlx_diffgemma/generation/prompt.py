"""The prompt of a generation: its tokens and images, the prefix it goes on from, and its budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..checkpoint.config import ModelConfig
from ..errors import PromptError, Setting, counted
from ..model.images import Placed
from ..model.prefix import Prefix, own_prefix
from ..model.text import Model, Progress

DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True)
class Prompt:
    """Token ids of a whole prompt, and its images with their indices among them."""

    tokens: list[int]
    images: Sequence[Placed]

    @property
    def soft_tokens(self) -> int:
        """The number of tokens that stand for images."""
        return sum(len(image.span) for image in self.images)


def encode(
    model: Model, prompt: Prompt, behind: Sequence[int], prefix: Prefix, progress: Progress | None
) -> None:
    """Encode the rest of the prompt with its images, then what stands behind it as text."""
    done = prefix.length
    if rest := prompt.tokens[done:]:
        images = [image.pixels for image in prompt.images if image.span.start >= done]
        model.encode(rest, prefix, images=images, progress=progress)
    if behind:
        model.encode(behind, prefix, images=None)


def fitting_prefix(model: Model, prefix: Prefix | None, prompt: Prompt) -> Prefix:
    """The prefix given, or an empty one; PromptError for another model's, or another prompt's."""
    prefix = model.new_prefix() if prefix is None else own_prefix(prefix, model)
    if prefix.shared(prompt.tokens, [image.run(0) for image in prompt.images]) < prefix.length:
        raise PromptError(
            "the prefix holds other tokens or images than the prompt begins with; give an empty "
            "one."
        )
    return prefix


def token_budget(
    config: ModelConfig,
    prompt_length: int,
    max_tokens: int | None,
    soft_tokens: int = 0,
    *,
    mode: str = "diffusion",
) -> int:
    """Tokens that may be returned; PromptError where they do not fit behind the prompt.

    In mode diffusion whole canvases must. soft_tokens: those of the prompt that stand for images.
    """
    context, C = config.text.max_position_embeddings, _unit(config, mode)
    if prompt_length == 0:
        raise PromptError("the prompt is empty, expected at least one token.")
    fitting = fitting_tokens(config, prompt_length, mode) // C
    wanted = -(-(max_tokens or DEFAULT_MAX_TOKENS) // C)
    if fitting == 0 or (max_tokens is not None and fitting < wanted):
        canvases = wanted if max_tokens is not None else 1
        size = counted(canvases, "token") if C == 1 else f"{counted(canvases, 'canvas')} of {C}"
        raise PromptError(
            f"{prompt_size(prompt_length, soft_tokens)} and {size} "
            f"need {prompt_length + canvases * C:,} positions, the model has {context:,}; shorten "
            "the prompt",
            *ways_down("max_tokens", soft_tokens),
            too_long=True,
        )
    return max_tokens or min(DEFAULT_MAX_TOKENS, fitting * C)


def fitting_tokens(config: ModelConfig, prompt_length: int, mode: str = "diffusion") -> int:
    """Tokens that the context has room for behind a prompt: whole canvases in mode diffusion."""
    C = _unit(config, mode)
    return max(0, config.text.max_position_embeddings - prompt_length) // C * C


def _unit(config: ModelConfig, mode: str) -> int:
    """Positions that are generated at a time at least."""
    return config.canvas_length if mode == "diffusion" else 1


def positions_needed(
    config: ModelConfig, prompt_length: int, max_tokens: int, mode: str = "diffusion"
) -> int:
    """Positions that a prompt and so many tokens may take: whole canvases, as far as they fit."""
    C = 1 if mode == "ar" else config.canvas_length
    needed = prompt_length + -(-max_tokens // C) * C
    return min(needed, config.text.max_position_embeddings)


def prompt_size(length: int, soft_tokens: int) -> str:
    """The tokens of a prompt in words, and how many of them are images'."""
    images = f", {soft_tokens:,} of them for images," if soft_tokens else ""
    return f"{counted(length, 'prompt token')}{images}"


def ways_down(name: str, soft_tokens: int) -> tuple[str, ...]:
    """The end of a message: a setting to lower, and with images what makes less of those."""
    if not soft_tokens:
        return (" or lower ", Setting(name), ".")
    fewer = ", show fewer images or a shorter video, or lower "
    return (fewer, Setting(name), " or ", Setting("image_tokens"), ".")
