"""transformers' own DiffusionGemma, read from the same folder and run with the same noise.

Axes: C canvas positions, V vocabulary, D head dimension.
"""

import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import checkpoints
import numpy as np
import torch
import transformers
from injected import InjectedNoise
from numpy.typing import NDArray
from transformers import DynamicCache
from transformers.image_transforms import rescale
from transformers.models.diffusion_gemma import (
    DiffusionGemmaConfig,
    DiffusionGemmaForBlockDiffusion,
)
from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
    EntropyBoundSampler,
    EntropyBoundSamplerConfig,
)
from transformers.models.gemma4.image_processing_pil_gemma4 import (
    convert_image_to_patches,
    pad_along_first_dim,
)

SLICE = 4096
CLEAR = 3e-5  # share of the mass; rounding moves a running sum by a tenth of it
F32 = NDArray[np.float32]
# The parameter that takes the cache: past_key_values in transformers 5.23, cache from 5.24 on.
_PARAMETERS = inspect.signature(DiffusionGemmaForBlockDiffusion.forward).parameters
CACHE = "cache" if "cache" in _PARAMETERS else "past_key_values"

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@dataclass(frozen=True)
class OracleStep:
    """One denoising step: argmax canvas [C], acceptance [C], entropies [C] in nats.

    margin: the smallest change of a logit or of an entropy that would have changed one of them.
    """

    canvas: int
    step: int
    best: NDArray[np.int64]
    accepted: NDArray[np.bool_]
    entropies: F32
    margin: float


@dataclass
class Trace:
    """A whole generation: its steps, and the new tokens up to and including a stop id."""

    steps: list[OracleStep] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)


class Oracle:
    """The reference on one folder; eager attention and eager experts."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        raw = json.loads((folder / "config.json").read_text())
        raw["vision_config"] = raw.get("vision_config") or checkpoints.vision_config()
        if raw.get("image_token_id") is None:
            raw["image_token_id"] = -1  # `generate` compares it with the prompt and trips over None
        self.dtype = dtype
        self.model = DiffusionGemmaForBlockDiffusion.from_pretrained(
            folder,
            config=DiffusionGemmaConfig.from_dict(raw),
            dtype=dtype,
            attn_implementation="eager",
            experts_implementation="eager",
        ).eval()
        self.canvas_length: int = raw["canvas_length"]
        self.vocab_size: int = raw["text_config"]["vocab_size"]

    def encode(
        self, tokens: Sequence[int], cache: Any = None, images: Sequence[NDArray[np.uint8]] = ()
    ) -> Any:
        """The cache of `tokens`, behind `cache` if one is given; images [h, w, 3] of the tokens."""
        if cache is None:
            cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        ids, given = torch.tensor([list(tokens)]), {}
        if images:
            pixels, positions = _padded(images)
            given = {"pixel_values": pixels, "image_position_ids": positions}
            given["attention_mask"] = self._masks(ids, cache)
        with torch.no_grad():
            self.model.model.encoder(input_ids=ids, **{CACHE: cache}, **given)
        return cache

    def next_logits(self, tokens: Sequence[int]) -> F32:
        """Softcapped logits [L, V] of the token behind each of `tokens`: encoder and tied head.

        The head's product is rounded to the dtype and capped in float32, as `forward` does it.
        """
        cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        cap = self.model.config.text_config.final_logit_softcapping
        with torch.no_grad():
            output = self.model.model.encoder(
                input_ids=torch.tensor([list(tokens)]), **{CACHE: cache}
            )
            raw = self.model.lm_head(output.last_hidden_state).float()
            return (torch.tanh(raw / cap) * cap)[0].numpy()

    def router_gap(self, tokens: Sequence[int]) -> float:
        """The smallest lead of a chosen expert's score over one not chosen, of the encoder pass.

        A gap within rounding is a tie: engines choose differently, and no logits agree behind it.
        """
        text, gaps = self.model.config.text_config, []

        def noted(_: Any, __: Any, scores: torch.Tensor) -> None:
            ranked = scores.flatten(0, -2).sort(dim=-1, descending=True).values
            k = text.top_k_experts
            gaps.append(float((ranked[:, k - 1] - ranked[:, k]).min()))

        modules = self.model.model.encoder.named_modules()
        routers = [module for name, module in modules if name.endswith("router.proj")]
        hooks = [router.register_forward_hook(noted) for router in routers]
        try:
            self.encode(tokens)
        finally:
            for hook in hooks:
                hook.remove()
        assert len(gaps) == len(routers) == text.num_hidden_layers
        return min(gaps)

    def _masks(self, ids: torch.Tensor, cache: Any) -> Any:
        """Masks in which an image sees itself: the encoder computes them itself, and drops them.

        Images are told from text over all positions, those of the cache included.
        """
        behind = torch.zeros(1, cache.get_seq_length(), dtype=torch.long)
        image = (ids == self.model.config.image_token_id).long()
        return self.model.model.encoder.create_masks_for_generate(
            self.model.config,
            torch.empty(*ids.shape, 0),
            None,
            position_ids=behind.shape[1] + torch.arange(ids.shape[1])[None],
            mm_token_type_ids=torch.cat([behind, image], dim=1),
            **{CACHE: cache},
        )

    def soft_tokens(self, images: Sequence[NDArray[np.uint8]]) -> list[tuple[F32, F32]]:
        """Soft tokens of images [h, w, 3], before and behind the projection; one padded batch."""
        pixels, positions = _padded(images)
        with torch.no_grad():
            output = self.model.model.encoder.get_image_features(pixels, positions)
        ends = np.cumsum([one.shape[0] * one.shape[1] // 48**2 for one in images])[:-1]
        before, after = (
            np.split(part.float().numpy(), ends)
            for part in (output.last_hidden_state, output.pooler_output)
        )
        return list(zip(before, after, strict=True))

    @staticmethod
    def keys_and_values(cache: Any, layer: int) -> tuple[F32, F32]:
        """Keys and values [1, heads, n, D] of a layer; sliding ones hold the last window - 1."""
        entry = cache.layers[layer]
        return entry.keys.float().numpy(), entry.values.float().numpy()

    def logits(self, canvas: NDArray[Any], cache: Any, soft: F32 | None = None) -> F32:
        """canvas [C], soft (processed logits [C, V]) or None -> softcapped logits [C, V]."""
        conditioning = None if soft is None else torch.tensor(soft)[None].to(self.dtype)
        with torch.no_grad():
            output = self.model(
                decoder_input_ids=torch.tensor(canvas.astype(np.int64))[None],
                self_conditioning_logits=conditioning,
                **{CACHE: cache},
            )
        return output.logits[0].float().numpy()

    def generate(
        self,
        prompt: Sequence[int],
        noise: InjectedNoise,
        *,
        stop_ids: Sequence[int] = (),
        entropy_bound: float,
        max_tokens: int,
        canvas: NDArray[Any] | None = None,
        soft: F32 | None = None,
        **settings: Any,
    ) -> Trace:
        """The reference's `generate`, every random number of it taken from `noise`.

        Uniforms within rounding of another token are moved, in `noise` itself: run this side first.
        """
        given: dict[str, Any] = {}
        if canvas is not None:
            given["decoder_input_ids"] = torch.tensor(canvas.astype(np.int64))[None]
        if soft is not None:
            given["self_conditioning_logits"] = torch.tensor(soft)[None].to(self.dtype)
        trace = Trace()
        with _injected(noise, trace):
            output = self.model.generate(
                torch.tensor([list(prompt)]),
                max_new_tokens=max_tokens,
                eos_token_id=list(stop_ids) or None,
                pad_token_id=0,
                sampler_config=EntropyBoundSamplerConfig(entropy_bound),
                **settings,
                **given,
            )
        trace.tokens = _cut(output.sequences[0, len(prompt) :].tolist(), stop_ids, max_tokens)
        return trace


def _padded(images: Sequence[NDArray[np.uint8]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches [N, P, 768] and positions [N, P, 2] of images, padded to those of the largest."""
    patches, places = zip(*map(_patches, images), strict=True)
    most = max(map(len, patches))
    padded = [pad_along_first_dim(*one, most) for one in zip(patches, places, strict=True)]
    pixels, positions = (torch.tensor(np.stack(part)) for part in zip(*padded, strict=True))
    return pixels, positions


def _patches(image: NDArray[np.uint8]) -> tuple[F32, NDArray[np.int64]]:
    """Patches [P, 768] and positions [P, 2] of an image that needs no resizing."""
    scaled = rescale(image.transpose(2, 0, 1), 1 / 255)
    y, x = np.indices((image.shape[0] // 16, image.shape[1] // 16))
    return convert_image_to_patches(scaled, 16), np.stack([x.ravel(), y.ravel()], axis=-1)


def draw(probabilities: F32, uniforms: F32) -> tuple[NDArray[np.int64], F32]:
    """One id a row: a slice of 4,096 ids by the first uniform, an id inside it by the second.

    probabilities [C, V], uniforms [C, 2] -> ids [C], and [C] how far, as a share of the mass, the
    uniforms were from choosing another id. Running sums in float32, one addition at a time.
    """
    drawn, clear = [], []
    for row, (first, second) in zip(probabilities, uniforms, strict=True):
        slices = [row[at : at + SLICE] for at in range(0, len(row), SLICE)]
        masses = np.array([np.cumsum(part, dtype=np.float32)[-1] for part in slices])
        chosen, outer = _first_exceeding(masses, first)
        inside, inner = _first_exceeding(slices[chosen], second)
        drawn.append(chosen * SLICE + inside)
        clear.append(min(outer, inner))
    return np.array(drawn), np.array(clear, np.float32)


def _first_exceeding(masses: F32, uniform: np.float32) -> tuple[int, float]:
    sums = np.cumsum(masses, dtype=np.float32)
    level = np.float32(uniform) * sums[-1]
    exceeding = np.flatnonzero(sums > level)
    first = int(exceeding[0] if exceeding.size else np.flatnonzero(masses > 0)[-1])
    inner = sums[:-1]  # where another id begins; the last sum ends them all
    return first, float(np.abs(inner - level).min(initial=np.inf) / sums[-1])


def clear_draw(probabilities: F32, uniforms: F32) -> NDArray[np.int64]:
    """`draw`, after moving in place every uniform that is within rounding of another id."""
    while True:
        drawn, clear = draw(probabilities, uniforms)
        close = np.flatnonzero(clear < CLEAR)
        if not close.size:
            return drawn
        uniforms[close] = np.float32((uniforms[close].astype(np.float64) + 0.377) % 1)


def _margin(processed: F32, entropies: F32, accepted: NDArray[np.bool_], bound: float) -> float:
    """How far a step was from another outcome: in its argmax, at the bound, and in the ranking."""
    best = np.sort(processed, axis=-1)
    ranked = np.sort(entropies)
    before = np.cumsum(ranked) - ranked
    count = int(accepted.sum())
    swap = ranked[count] - ranked[count - 1] if count < len(ranked) else np.inf
    border = np.abs(before[1:] - bound).min(initial=np.inf)
    return float(min((best[:, -1] - best[:, -2]).min(), border, swap))


def _cut(tokens: list[int], stop_ids: Sequence[int], budget: int) -> list[int]:
    tokens = tokens[:budget]
    ends = [at for at, token in enumerate(tokens) if token in set(stop_ids)]
    return tokens[: ends[0] + 1] if ends else tokens


@contextmanager
def _injected(noise: InjectedNoise, trace: Trace) -> Iterator[None]:
    """Replaces torch's randint and multinomial, and writes down what the sampler does.

    The reference draws an initial canvas for every canvas, even where one is given; then, a step,
    the tokens and the renoised canvas.
    """
    canvas, step = -1, -1
    begin = DiffusionGemmaForBlockDiffusion._prepare_denoiser_inputs
    accept = EntropyBoundSampler.accept_canvas

    def next_canvas(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal canvas, step
        canvas, step = canvas + 1, -1
        return begin(self, *args, **kwargs)

    def randint(*, size: tuple[int, int], **_: Any) -> torch.Tensor:
        ids = noise.starts[canvas] if step < 0 else noise.renoised[canvas, step]
        assert tuple(size) == (1, len(ids))
        return torch.tensor(ids.astype(np.int64))[None]

    def multinomial(probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
        nonlocal step
        assert num_samples == 1
        step += 1
        ids = clear_draw(probabilities.numpy(), noise.drawn[canvas, step])
        return torch.tensor(ids)[:, None]

    def recorded(self: Any, current: Any, drawn: Any, logits: torch.Tensor, cur_step: Any) -> Any:
        result = accept(self, current, drawn, logits, cur_step)
        entropies = torch.distributions.Categorical(logits=logits).entropy()[0].numpy()
        accepted = self.accepted_token_mask[0].numpy()
        margin = _margin(logits[0].numpy(), entropies, accepted, self.entropy_bound)
        best = logits.argmax(-1)[0].numpy()
        trace.steps.append(OracleStep(canvas, step, best, accepted, entropies, margin))
        return result

    with (
        warnings.catch_warnings(),
        _replaced(DiffusionGemmaForBlockDiffusion, "_prepare_denoiser_inputs", next_canvas),
        _replaced(EntropyBoundSampler, "accept_canvas", recorded),
        _replaced(torch, "randint", randint),
        _replaced(torch, "multinomial", multinomial),
    ):
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.compiler's own, at its import
        yield


def _replaced(owner: Any, name: str, value: Callable[..., Any]) -> Any:
    return mock.patch.object(owner, name, value)
