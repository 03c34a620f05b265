"""The report of `info` for people: plain aligned lines, fit for a file or a pipe too."""

from collections.abc import Iterator

from ...checkpoint.hub import Source
from ...checkpoint.vision import IMAGE_KEY, VISION
from ...errors import counted
from ...kernels.weights import coverage
from ...model.memory import raising, sized
from ..models.fit import download_size, longest, verdict
from .facts import Facts
from .macs import shared_lines
from .token import TokenCost

SHOWN_STRAYS = 3
RECIPE_WIDTH = 12  # of a recipe's column; longer names have a line of their own


def lines(facts: Facts) -> Iterator[str]:
    """The whole report."""
    for name, value in _facts(facts):
        yield f"{name:<14}{value}"
    yield ""
    yield from _parts(facts)
    yield ""
    yield from _memory(facts)
    yield ""
    yield from _token(facts)
    if facts.recipes:
        yield ""
        yield from _recipes(facts)
    if facts.shared:
        yield ""
        yield from shared_lines(facts.shared)


def _facts(facts: Facts) -> Iterator[tuple[str, str]]:
    config, text = facts.config, facts.config.text
    sliding = sum(layer.sliding for layer in text.layers)
    sampler = facts.sampler
    yield from _place(facts.source)
    yield "parameters", f"{facts.inventory.parameters:,}, without vision"
    yield "packing", config.packing or "none"
    yield "kernels", coverage({part.name: part.packing for part in facts.inventory.parts})
    yield "computes in", facts.dtype
    yield "layers", f"{len(text.layers)}: {sliding} sliding, {len(text.layers) - sliding} full"
    yield "experts", f"{text.num_experts}, {text.top_k_experts} used for a token"
    yield "canvas", counted(config.canvas_length, "token")
    yield "context", f"{text.max_position_embeddings:,} positions, window {text.sliding_window:,}"
    yield "images", _images(facts)
    yield "vocabulary", f"{text.vocab_size:,}"
    yield (
        "sampler",
        f"{counted(sampler.max_denoising_steps, 'step')}, entropy bound "
        f"{sampler.entropy_bound} nats, temperature {sampler.t_max} to {sampler.t_min}, "
        f"stability {sampler.stability_threshold}, confidence {sampler.confidence_threshold} nats",
    )
    yield "stop ids", ", ".join(map(str, config.stop_ids)) or "none"
    yield "tokenizer", _tokenizer(facts)
    yield "dropped", _dropped(facts.inventory.dropped)


def _place(source: Source) -> Iterator[tuple[str, str]]:
    """The model's folder, or what it takes to have one."""
    revision = f" (revision {source.revision})" if source.revision else ""
    if (download := source.download) is None:
        yield "model", f"{source.folder}{revision}"
        return
    yield "model", f"{download.repo_id}{revision}, not on this machine"
    yield "download", download_size(download)


def _tokenizer(facts: Facts) -> str:
    if not facts.has_tokenizer:
        return "missing: copy tokenizer.json from the model's repository"
    return "with a chat template" if facts.has_template else "without a chat template: use --raw"


def _images(facts: Facts) -> str:
    """The soft tokens that an image may take, or why no image can be asked about."""
    config, vision = facts.config, facts.inventory.vision
    if vision is None:
        if config.vision is not None:
            return "none: config.json has a vision tower, the folder no tensor of it"
        if any(VISION.match(name) for name in facts.inventory.dropped):
            return "none: the folder has a vision tower, config.json no vision_config"
        return "none: text only"
    if config.image_ids is None:
        return f"none: config.json names no {IMAGE_KEY}"
    *others, last = (f"{budget:,}" for budget in vision.budgets)
    offered = f"{', '.join(others)} or {last}"
    return f"at most {vision.soft_tokens} tokens each; {offered} with --image-tokens"


def _dropped(names: tuple[str, ...]) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - SHOWN_STRAYS} more" if len(names) > SHOWN_STRAYS else ""
    count = counted(len(names), "superfluous tensor")
    return f"{count}: {', '.join(names[:SHOWN_STRAYS])}{more}"


def _parts(facts: Facts) -> Iterator[str]:
    token = facts.token
    header = f"{'a token':>12}" if token else ""
    yield f"{'part':<18}{'parameters':>16}{'on disk':>12}{header}  packing"
    for part in facts.inventory.parts:
        packing = " + ".join(part.packing)
        read = f"{_read(token, part.name):>12}" if token else ""
        yield f"{part.name:<18}{part.parameters:>16,}{sized(part.bytes):>12}{read}  {packing}"


def _read(token: TokenCost, part: str) -> str:
    """The bytes of a part's weights that a token of mode ar reads."""
    return sized(token.parts[part]) if part in token.parts else "-"


def _memory(facts: Facts) -> Iterator[str]:
    need = facts.need
    tuned = ", as tuned for this machine" if facts.tuned else ""
    yield f"memory for a context of {counted(need.context, 'position')}{tuned}"
    yield f"  weights     {sized(need.weight_bytes):>12}"
    yield f"  cache       {sized(need.cache_bytes):>12}"
    yield f"  workspace   {sized(need.workspace_bytes):>12}"
    yield f"  needed      {sized(need.needed_bytes):>12}  {verdict(need.fits)}"
    if need.available_bytes is not None:
        room = longest(facts.largest_context)
        yield f"  available   {sized(need.available_bytes):>12}  {room}"
    if command := raising(need):
        yield f"  {command}"


def _token(facts: Facts) -> Iterator[str]:
    """Bytes and rate of a token of mode ar, or why there is none; the times that were measured."""
    token, times = facts.token, facts.times
    if token is None:
        yield "mode ar: none, this checkpoint was trained without the next-token loss"
        return
    yield f"a token of mode ar, behind {counted(token.prefix, 'position')}"
    yield f"  weights     {sized(token.weight_bytes):>12}"
    yield f"  cache       {sized(token.cache_bytes):>12}"
    yield f"  launches    {token.launches:>12,}  counted by layers"
    if token.tokens_per_second is None:
        yield f"  bound       {'none':>12}  the chip that computes here is not in the table"
    else:
        rate = f"{token.tokens_per_second:.0f}/s"
        yield f"  bound       {rate:>12}  tokens, by the memory of {token.chip} (arithmetic)"
    for source, found in (("estimated", token.estimated), ("measured", times)):
        if found:
            yield f"  {source:<12}{found.token_ms:>9.3g} ms  a step {found.step_ms:.3g} ms"
    yield from _step(facts, token)


def _step(facts: Facts, token: TokenCost) -> Iterator[str]:
    """Bytes and time of a denoising step with all experts, and with those that a text uses."""
    experts = facts.config.text.num_experts
    yield f"a denoising step reads, behind {counted(token.prefix, 'position')}"
    used = f"if it uses {token.text_experts} of them, the share published for text"
    all_ms = token.estimated and token.estimated.step_ms
    for size, ms, said in (
        (token.step_bytes, all_ms, f"if a layer uses all its {experts} experts"),
        (token.text_step_bytes, token.text_step_ms, f"{used} (assumed)"),
    ):
        estimate = "" if ms is None else f"; estimated {ms:.3g} ms"
        yield f"  {sized(size):>24}  {said}{estimate}"


def _recipes(facts: Facts) -> Iterator[str]:
    reads = any(recipe.token_bytes is not None for recipe in facts.recipes)
    a_token = ", and what a token of mode ar reads" if reads else ""
    yield f"weights once packed by `convert --quantize`{a_token}"
    for recipe in facts.recipes:
        room = "" if recipe.largest_context is None else longest(recipe.largest_context)
        read = f"{sized(recipe.token_bytes):>12}" if recipe.token_bytes is not None else ""
        figures = f"{sized(recipe.weights_bytes):>12}{read}  {room}".rstrip()
        if len(recipe.name) > RECIPE_WIDTH:
            yield f"  {recipe.name}"
        name = recipe.name if len(recipe.name) <= RECIPE_WIDTH else ""
        yield f"  {name:<{RECIPE_WIDTH}}{figures}"
