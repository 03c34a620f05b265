"""The two engines behind one interface: the same checkpoint, prompt, canvas length and sampler.

`generate` and `sampler_seconds` run the loops that ship; `sampler_seconds` with the network
replaced by logits that are already there. Axes: C canvas positions, V vocabulary, H hidden size.
"""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx

import mlx_diffgemma as dg
from mlx_diffgemma.model.embedding import Embedding
from mlx_diffgemma.model.text import Model

Build = Callable[[], mx.array]


class Engine(Protocol):
    """An engine with a checkpoint loaded and a prompt to answer."""

    name: str

    def generate(self, steps: int, seed: int) -> None:
        """Run prefill and one canvas of exactly `steps` steps."""
        ...

    def sampler_seconds(self, raw: Sequence[mx.array], steps: int, seed: int) -> list[float]:
        """Wall time of each step's sampler, on raw head outputs [C, V] used in turn."""
        ...

    def decoder(self, canvas: mx.array, soft: mx.array | None) -> Build:
        """A function that builds the graph of a decoder pass, from canvas ids to hidden [1, C, H].

        The prompt is encoded and everything else evaluated; to be called once.
        """
        ...

    def logits(self, hidden: mx.array) -> mx.array:
        """Softcapped logits [1, C, V]."""
        ...

    def soft(self, processed: mx.array) -> mx.array:
        """The next step's soft embeddings [1, C, H] from processed logits [1, C, V]."""
        ...


class Ours:
    """mlx-diffgemma."""

    name = "mlx-diffgemma"

    def __init__(
        self, folder: Path, prompt: Sequence[int], dtype: mx.Dtype | None = mx.float32
    ) -> None:
        self.model, self.prompt = dg.load_model(folder, dtype), list(prompt)
        self._prefix: dg.Prefix | None = None

    def forget_traces(self) -> None:
        """Let compiled pieces be traced anew, for another form of the graph."""
        for layer in self.model.layers:
            layer.__post_init__()

    def generate(self, steps: int, seed: int) -> None:
        self._run(self.model, steps, seed)

    def sampler_seconds(self, raw: Sequence[mx.array], steps: int, seed: int) -> list[float]:
        network = _GivenLogits(self.model, raw)
        self._run(network, steps + 1, seed)
        return _gaps(network.calls)

    def decoder(self, canvas: mx.array, soft: mx.array | None) -> Build:
        if self._prefix is None:
            self._prefix = self.model.encode(self.prompt)
        prefix = deepcopy(self._prefix)  # a pass writes the canvas behind the prefix
        mx.eval(prefix.arrays())
        return lambda: self.model.decode(canvas, prefix, soft)

    def logits(self, hidden: mx.array) -> mx.array:
        return self.model.logits(hidden)

    def soft(self, processed: mx.array) -> mx.array:
        return self.model.soft_embedding(processed)

    def _run(self, model: Model, steps: int, seed: int) -> None:
        settings = dg.Settings(
            max_tokens=model.config.canvas_length, max_denoising_steps=steps, seed=seed
        )
        ran = sum(not frame.committed for frame in dg.denoise(model, self.prompt, settings))
        _require_steps(self.name, ran, steps)


class _GivenLogits(Model):
    """Our network with its passes and its two vocabulary products left out.

    The hidden states [1, C, 1] are row numbers, and the head looks the rows up.
    """

    def __init__(self, model: Model, raw: Sequence[mx.array]) -> None:
        vars(self).update(vars(model))
        self.raw, self.calls = raw, [0.0] * 0
        self.embedding = self.given = _GivenHead(model.embedding)

    def encode(self, tokens: Any, prefix: Any = None, **_: Any) -> Any:
        prefix.tokens.extend(tokens)
        return prefix

    def decode(self, canvas: Any, prefix: Any, soft: Any = None) -> mx.array:
        mx.eval(canvas)
        self.calls.append(time.perf_counter())
        self.given.raw = self.raw[len(self.calls) % len(self.raw)]
        return mx.arange(canvas.size).reshape(1, -1, 1)


class _GivenHead(Embedding):
    """The embedding without its matrices."""

    def __init__(self, embedding: Embedding) -> None:
        vars(self).update(vars(embedding))
        self.raw = mx.zeros((0, 0))

    def head(self, hidden: mx.array) -> mx.array:
        first: int = hidden.reshape(-1).tolist()[0]  # type: ignore[assignment, index]
        return self.raw[first : first + hidden.shape[0]]

    def mix(self, weights: mx.array, total: mx.array) -> mx.array:
        return total  # small, and there as soon as the weights are


class Theirs:
    """mlx-vlm, with its sampler pinned to the checkpoint's."""

    name = "mlx-vlm"

    def __init__(self, folder: Path, prompt: Sequence[int]) -> None:
        try:
            self.model: Any = import_module("mlx_vlm.utils").load_model(folder)
        except ModuleNotFoundError as error:
            raise SystemExit(f"{error}; install the bench extra: README.md beside this.") from None
        mx.eval(self.model.parameters())
        self.prompt = list(prompt)
        self._prefill: list[Any] = []

    def generate(self, steps: int, seed: int) -> None:
        self._run(self.model, steps, seed)

    def sampler_seconds(self, raw: Sequence[mx.array], steps: int, seed: int) -> list[float]:
        network = _TheirGivenLogits(self.model, raw)
        self._run(network, steps + 1, seed)
        return _gaps(network.calls)

    def decoder(self, canvas: mx.array, soft: mx.array | None) -> Build:
        cache = self._prefilled()
        mask = self.model.diffusion_decoder_masks(canvas[None], cache, None)

        def build() -> mx.array:
            hidden: mx.array = self.model.model.decoder(
                canvas[None],
                cache=cache,
                self_conditioning_embeddings=soft,
                decoder_attention_mask=mask,
            )
            return hidden

        return build

    def logits(self, hidden: mx.array) -> mx.array:
        raw = self.model.model.decoder.embed_tokens.as_linear(hidden)
        logits: mx.array = self.model._softcap(raw)
        return logits

    def soft(self, processed: mx.array) -> mx.array:
        context = self.model.diffusion_prepare_self_conditioning()
        soft: mx.array = self.model.diffusion_self_conditioning(processed, context)
        return soft

    def _prefilled(self) -> list[Any]:
        if not self._prefill:
            self._prefill = self.model.diffusion_prefill_cache(
                mx.array([self.prompt]),
                attention_mask=None,
                cache=self.model.make_cache(),
                pixel_values=None,
                mm_token_type_ids=None,
                prefill_step_size=None,
                chunk_prefill=False,
            )
            mx.eval([cache.state for cache in self._prefill])
        return self._prefill

    def _run(self, model: Any, steps: int, seed: int) -> None:
        """Run their loop; temperature 1 leaves the schedule alone in charge, 0 would be greedy."""
        mx.random.seed(seed)
        stream = import_module("mlx_vlm.generate.diffusion").stream_diffusion_generate
        tokenizer = _NoText()
        results = list(
            stream(
                model,
                tokenizer,
                tokenizer,
                mx.array([self.prompt]),
                None,
                None,
                max_tokens=int(self.model.config.canvas_length),
                skip_special_token_ids=[],
                temperature=1.0,
                max_denoising_steps=steps,
                diffusion_full_canvas=True,
                diffusion_sampler="entropy-bound",
            )
        )
        _require_steps(self.name, results[-1].diffusion_denoising_steps, steps)


class _TheirGivenLogits:
    """Their model as their loop sees it, passes and vocabulary products left out."""

    def __init__(self, model: Any, raw: Sequence[mx.array]) -> None:
        self.config, self.raw, self.calls = model.config, raw, [0.0] * 0
        self._softcap = model._softcap

    def make_cache(self) -> list[Any]:
        return []

    def diffusion_prepare_self_conditioning(self) -> None:
        return None

    def diffusion_prefill_cache(self, input_ids: mx.array, *, cache: Any, **_: Any) -> Any:
        return cache

    def diffusion_decoder_masks(self, *_: Any) -> dict[str, Any]:
        return {}

    def diffusion_decoder_logits(self, canvas_ids: mx.array, **_: Any) -> mx.array:
        mx.eval(canvas_ids)
        self.calls.append(time.perf_counter())
        logits: mx.array = self._softcap(self.raw[len(self.calls) % len(self.raw)][None])
        return logits

    def diffusion_self_conditioning(self, processed: mx.array, _: Any) -> mx.array:
        return mx.zeros((1, processed.shape[1], 1))


class _NoText:
    """A stand-in for tokenizer and processor: no text is made, and no token stops."""

    def __init__(self) -> None:
        self.stopping_criteria, self.detokenizer = _NeverStop(), _Silent()


class _NeverStop:
    def __call__(self, token: int) -> bool:
        return False

    def add_eos_token_ids(self, ids: Any) -> None:
        pass


class _Silent:
    last_segment = ""

    def reset(self) -> None:
        pass

    def add_token(self, token: int, **_: Any) -> None:
        pass

    def finalize(self) -> None:
        pass


def _gaps(calls: Sequence[float]) -> list[float]:
    """Seconds from one call of the network to the next: the loop's own work."""
    return [after - before for before, after in pairwise(calls)]


def _require_steps(name: str, ran: int, wanted: int) -> None:
    if ran != wanted:
        raise SystemExit(f"{name} ran {ran} steps, expected {wanted}: the runs do not compare.")
