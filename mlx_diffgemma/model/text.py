"""The text network: one set of weights, run as a causal encoder and as a bidirectional decoder.

Axes: L positions, C canvas positions, V vocabulary, H hidden size, D head dimension.
Source: transformers 5.23 `models/diffusion_gemma/modeling_diffusion_gemma.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import mlx.core as mx

from ..checkpoint.config import ModelConfig
from ..errors import counted
from ..images.pixels import Pixels
from ..machine.choices import Choices
from ..machine.pauses import Pauses
from ..share.part import WHOLE, Part, Rows
from .attention import ALL, Apart, Visibility
from .blocks import ALL_ROWS, Layer, SelfConditioning
from .cache import LayerCache
from .elementwise import softcap
from .embedding import Embedding
from .finite import not_finite
from .given import (
    Floats,
    Ids,
    Unread,
    canvas_ids,
    canvas_rows,
    floats,
    image_list,
    one_id,
    token_ids,
)
from .images import Placed, pieces, placed, require_apart
from .passes import Piece, decoded, encoded, make_room, stepped
from .prefix import Prefix, own_prefix
from .soft_gather import Gathered
from .vision import VisionTower, required_tower

Progress = Callable[[int, int], None]  # done, total

PREFILL_CHUNK = 2048  # prompt positions encoded at a time


class Model:
    """The network alone: token ids in, logits out. No tokenizer, no sampler.

    `encode` builds a Prefix, `decode` denoises a canvas behind it, `logits` and `soft_embedding`
    turn the result into a distribution and back into an input. part: what of it is this process's,
    where several Macs share one answer; `layers` are its own. pauses: work is done in pieces with
    the GPU left free between them; None for as fast as it goes.
    """

    def __init__(
        self,
        config: ModelConfig,
        embedding: Embedding,
        layers: Sequence[Layer],
        self_conditioning: SelfConditioning,
        final_norm: mx.array,
        choices: Choices | None = None,
        vision: VisionTower | None = None,
        part: Part = WHOLE,
    ) -> None:
        self.config = config
        self.embedding = embedding
        self.layers = list(layers)
        self.self_conditioning = self_conditioning
        self.final_norm = final_norm
        self.choices = choices or Choices()
        self.vision = vision
        self.part = part
        self.pauses: Pauses | None = None
        self.find_non_finite: Callable[[], str | None] = lambda: None  # names a broken weight

    def __repr__(self) -> str:
        text, dtype = self.config.text, str(self.dtype).rpartition(".")[2]
        sizes = f"hidden size {text.hidden_size:,}, vocabulary {text.vocab_size:,}"
        sight = "" if self.vision is None else ", sees images"
        return f"Model({counted(len(self.layers), 'layer')}, {sizes}, {dtype}{sight})"

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of activations."""
        return self.embedding.dtype

    @property
    def numbers(self) -> range:
        """The numbers of `layers` in the network."""
        return self.part.layers(len(self.config.text.layers))

    def new_prefix(self) -> Prefix:
        """An empty prefix."""
        text = self.config.text
        kinds = [text.layers[number] for number in self.numbers]
        caches = [LayerCache(text.sliding_window if c.sliding else None) for c in kinds]
        return Prefix(caches, model=ref(self), least=self.part.least)

    def encode(
        self,
        tokens: Ids,
        prefix: Prefix | None = None,
        *,
        images: Sequence[Pixels] | None = (),
        chunk: int | None = None,
        progress: Progress | None = None,
    ) -> Prefix:
        """The causal pass: tokens [L] or [1, L] behind `prefix`, consumed and returned longer.

        images: those of the tokens, in order, each with a run of config.image_token_id as long as
        it has soft tokens; None takes that id for a token like others. Runs `chunk` positions at a
        time (None: as chosen for the machine, or PREFILL_CHUNK), which gives the same keys and
        values as one pass; an image is never cut. PromptError for what are no ids of the
        vocabulary, for runs that differ from the images, and for another model's prefix;
        CheckpointError and NumericsError as in `image_features`.
        """
        chunk = chunk or self.choices.prefill_chunk or PREFILL_CHUNK
        ids = token_ids(tokens, self.config.text.vocab_size)
        prefix = self.new_prefix() if prefix is None else own_prefix(prefix, self)
        inside = self._ahead(ids, images, prefix)
        prefix.reserve(max(prefix.reserved, prefix.length + len(ids)))
        for piece in pieces(len(ids), chunk, [image.span for image in inside]):
            own = [image.within(piece) for image in inside if image.span.start in piece]
            sent = self._encode_piece(ids[piece.start : piece.stop], own, prefix)
            self.evaluate(sent, prefix.arrays())
            mx.clear_cache()
            self.part.share.alive()
            if progress:
                progress(piece.stop, len(ids))
        return prefix

    def placed(self, ids: Sequence[int], images: Sequence[Pixels]) -> list[Placed]:
        """The images with their runs in ids [L]; errors as `encode` has them."""
        if given := image_list(images):
            required_tower(self.config, self.vision)
        return placed(ids, given, self.config.image_token_id)

    def image_features(self, images: Sequence[Pixels]) -> list[mx.array]:
        """The features [soft_tokens, H] of each image, which replace its placeholders' embeddings.

        PromptError for what is no image, CheckpointError for a checkpoint that sees none,
        NumericsError for weights that are not finite.
        """
        tower = required_tower(self.config, self.vision)
        return [self._features(tower, pixels) for pixels in image_list(images)]

    def decode(self, canvas: Ids | Unread, prefix: Prefix, soft: Floats | None = None) -> mx.array:
        """The bidirectional pass: canvas [C] or [1, C], soft [1, C, H] -> hidden [1, C, H], normed.

        Every position sees the whole canvas and the prefix (its last window - 1 positions on
        sliding layers). Where Macs share a canvas by rows, soft and hidden are of this one's rows
        alone. What the prefix holds is not changed; its buffers lend the canvas room.
        SettingsError for a canvas or soft embeddings that are none, PromptError for another
        model's prefix.
        """
        canvas = canvas_ids(canvas, self.config.text.vocab_size)
        rows = self.part.rows(canvas.shape[1])
        shape = (rows.count(canvas.shape[1]), self.config.text.hidden_size)
        soft = None if soft is None else floats(soft, shape, "soft embeddings")
        return self._decoded(canvas, prefix, soft, ALL, rows)

    def decode_many(
        self, canvases: Sequence[Ids] | mx.array, prefix: Prefix, soft: Floats | None = None
    ) -> mx.array:
        """The bidirectional pass of canvases [B, C], soft [B, C, H] -> hidden [B, C, H], normed.

        Each sees the prefix and itself, as if `decode` had it alone: the prefix's keys and values
        are read once for all, and so are the weights. Errors as `decode` has them.
        """
        rows = canvas_rows(canvases, self.config.text.vocab_size)
        shape = (*rows.shape, self.config.text.hidden_size)
        if soft is not None:
            soft = floats(soft, shape, "soft embeddings").flatten(1, 2)
        visible = ALL if len(rows) == 1 else Apart(rows.shape[1])
        return self._decoded(rows.reshape(1, -1), prefix, soft, visible).reshape(shape)

    def logits(self, hidden: mx.array) -> mx.array:
        """hidden [..., C, H] -> softcapped logits [..., C, V], float32."""
        return softcap(self.raw_logits(hidden), self.config.text.final_logit_softcapping)

    def raw_logits(self, hidden: mx.array) -> mx.array:
        """hidden [..., C, H] -> logits before the softcap [..., C, V], in the hidden's dtype."""
        return self.embedding.head(hidden)

    def soft_embedding(self, processed: mx.array, bias: mx.array | None = None) -> mx.array:
        """processed logits [..., C, V] -> soft embeddings [..., C, H], by the whole product.

        bias [..., C, V]: see `Embedding.rounded`.
        """
        return self.embedding.soft(processed, bias)

    def certain_embedding(self, ids: mx.array) -> mx.array:
        """Soft embeddings [..., C, H] of distributions that are certain of ids [..., C]."""
        return self.embedding.lookup(ids)

    @property
    def gathers(self) -> bool:
        """True where soft embeddings can be gathered; see `Embedding.gathers`."""
        return self.embedding.gathers

    def gathered_embedding(self, processed: mx.array, bias: mx.array | None = None) -> Gathered:
        """Soft embeddings of processed logits [R, V] from few tokens; see `soft_gather.gather`."""
        return self.embedding.gathered(processed, bias)

    def mixed_embedding(self, weights: mx.array, total: mx.array) -> mx.array:
        """weights [C, V] that sum to total [C, 1] -> soft embeddings [C, H]."""
        return self.embedding.mix(weights, total)

    def encode_hidden(
        self, tokens: Ids, prefix: Prefix, *, images: Sequence[Pixels] | None = ()
    ) -> mx.array:
        """The causal pass with its last layer whole: tokens [L] -> hidden [1, L, H], normed.

        Extends `prefix` as `encode` does, in one piece; `logits` of the result predict the token
        after each. Where Macs share by rows each computes all of it.
        """
        ids = token_ids(tokens, self.config.text.vocab_size)
        inside = self._ahead(ids, images, own_prefix(prefix, self))
        piece = Piece(ids, inside)
        x = encoded(self, self._embedded(piece), prefix, piece, whole=True)
        prefix.extend(ids, [image.run(prefix.length) for image in inside])
        return mx.fast.rms_norm(x, self.final_norm, self.config.text.rms_norm_eps)

    def step(self, token: int | mx.array, prefix: Prefix) -> mx.array:
        """The causal pass of one token: an id or an array [1] -> logits [1, V] of the next one.

        float32, softcapped. Extends `prefix`. An array may be one that nobody has evaluated, and
        nothing here waits for it: whoever builds the next step before reading this one's result
        keeps a GPU busy. PromptError for what is no id, and for another model's prefix.
        """
        ids = one_id(token, self.config.text.vocab_size)
        x = stepped(self, self.embedding.lookup(ids[None]), own_prefix(prefix, self))
        prefix.extend_unread(ids)
        hidden = mx.fast.rms_norm(x, self.final_norm, self.config.text.rms_norm_eps)
        return self.logits(hidden)[0]

    def _decoded(
        self,
        canvas: mx.array,
        prefix: Prefix,
        soft: mx.array | None,
        visible: Visibility | Apart,
        rows: Rows = ALL_ROWS,
    ) -> mx.array:
        """The bidirectional pass of positions [1, C]: a canvas, or several side by side.

        rows: those that are computed here, of which soft embeddings and result are.
        """
        make_room(self, own_prefix(prefix, self), canvas.shape[1])
        own = canvas[:, rows.own] if rows.divided else canvas
        own = own if soft is None else self.part.behind(own, soft)  # certain ones are looked up
        x = self.self_conditioning(self.embedding.lookup(own), soft)
        x = decoded(self, x, prefix, visible, rows)
        return mx.fast.rms_norm(x, self.final_norm, self.config.text.rms_norm_eps)

    def evaluate(self, *work: Any) -> None:
        """Compute arrays, with a pause behind them where there are pauses."""
        (mx.eval if self.pauses is None else self.pauses.evaluate)(*work)

    def _ahead(
        self, ids: Sequence[int], images: Sequence[Pixels] | None, prefix: Prefix
    ) -> list[Placed]:
        """The images among ids [L] to be encoded behind `prefix`; none are looked for in None."""
        inside = [] if images is None else self.placed(ids, images)
        require_apart(inside, prefix.images, prefix.length)
        return inside

    def _features(self, tower: VisionTower, pixels: Pixels) -> mx.array:
        features = tower(pixels)
        if not bool(mx.isfinite(features).all()):
            raise not_finite(self, "the features of an image")
        return features

    def _encode_piece(
        self, ids: Sequence[int], images: Sequence[Placed], prefix: Prefix
    ) -> list[mx.array]:
        """Encode ids [L] at once; the last layer stops at its keys and values.

        Returns what is to be evaluated so that other Macs get it, beside the prefix.
        """
        piece = Piece(ids, images, self.part.piece_rows(len(ids)))
        x = encoded(self, self._embedded(piece), prefix, piece, whole=False)
        prefix.extend(ids, [image.run(prefix.length) for image in images])
        return [x] if self.part.in_stages else []

    def _embedded(self, piece: Piece) -> mx.array:
        """The own rows of a piece -> [1, R, H]; features replace images' tokens, unscaled."""
        x = self.embedding.lookup(mx.array(list(piece.own_ids))[None])
        for image, of_rows, of_image in piece.seen():
            (features,) = self.image_features([image.pixels])
            x[:, of_rows] = features[of_image].astype(x.dtype)
        return x
