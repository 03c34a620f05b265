"""A checkpoint's tokenizer: text to token ids and back.

Made on the `tokenizers` library alone, which is imported when a tokenizer is loaded. mlx-lm's
wrapper would bring transformers along: 0.9 s against 0.02 s before the first token.

Control tokens are the special ones of tokenizer.json, those tokenizer_config.json names
(`eot_token` and the like) and the chat markers. `encode` recognises them wherever they stand, as
the reference does: it is for what this program, a template or `--raw` writes. `encode_text` is for
what others write: a user's `<turn|>` is seven characters there. See `literal` for both in one text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoint.files import is_there, read_optional, read_text
from ..errors import CheckpointError, PromptError, one_line
from .control import CONTROL, VIDEO, ControlTexts
from .decoder import Decoder, Unit, other_decoder, read_unit
from .template import find_template

if TYPE_CHECKING:
    import tokenizers

# Names GemmaTokenizer gives these tokens where tokenizer_config.json says nothing.
GEMMA_TOKENS = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
CHAT_MARKERS = (
    *("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>", '<|"|>'),
    *("<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>"),
)
LONG = 1 << 14  # characters of a text that takes long enough for other threads to want their turn
ID_LIMIT = 1 << 32  # the backend holds ids in 32 unsigned bits and raises for others


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """One checkpoint's tokenizer and chat template; made by `load_tokenizer`.

    most: ids that any text may have. One that has to have more is refused before it is encoded,
    which takes seconds and gigabytes where it has millions.
    """

    folder: Path
    backend: tokenizers.Tokenizer
    special_tokens: Mapping[str, str]  # what templates may name: bos_token -> "<bos>"
    control_ids: frozenset[int]  # dropped by decode
    chat_template: str | None
    most: int | None = None

    def encode(self, text: str) -> list[int]:
        """The text's ids, control tokens written in it included; no bos is added."""
        return self.encode_pieces((text,))

    def encode_text(self, text: str) -> list[int]:
        """The text's ids, control texts in it as text like any other; no bos is added."""
        return self.encode_pieces(self.control.cut(text))

    def encode_pieces(self, pieces: Sequence[str]) -> list[int]:
        """The ids of a text's pieces, each encoded alone: no token reaches into the next piece."""
        text = pieces[0] if len(pieces) == 1 else "".join(pieces)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise PromptError(
                f"the text has U+{ord(text[error.start]):04X} at character {error.start}, "
                "expected valid Unicode; give the text in UTF-8."
            ) from error
        self._require_short(text)
        return [token for piece in pieces for token in self._ids(piece)]

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of `ids`; with `special`, control tokens are written out.

        Never raises: ids outside the vocabulary are left out, and each byte of a character cut in
        the middle becomes U+FFFD.
        """
        return self.decoder(special=special).decode(map(int, ids))

    def decoder(self, *, special: bool = False) -> Decoder:
        """Decodes ids that come one after the other."""
        return Decoder(self.unit, () if special else self.control_ids)

    def unit(self, token: int) -> Unit | None:
        """The Unit of a token; None for an id outside the vocabulary."""
        if token not in self._units:
            known = 0 <= token < ID_LIMIT
            self._units[token] = read_unit(self.backend, token) if known else None
        return self._units[token]

    def _ids(self, piece: str) -> list[int]:
        """The ids of a piece. What the backend encodes as a batch it encodes without the GIL."""
        if len(piece) < LONG:
            ids: list[int] = self.backend.encode(piece, add_special_tokens=False).ids
            return ids
        [encoded] = self.backend.encode_batch_fast([piece], add_special_tokens=False)
        return list(encoded.ids)

    def _require_short(self, text: str) -> None:
        """PromptError for a text that cannot fit, whatever its tokens are."""
        if self.most is None or len(text) <= self.most:
            return
        least = -(-len(text) // self._longest)
        if least > self.most:
            raise PromptError(
                f"the text has {len(text):,} characters, which are {least:,} tokens at least, and "
                f"the context has room for {self.most:,}; shorten the prompt.",
                too_long=True,
            )

    @cached_property
    def _longest(self) -> int:
        """Characters of the longest token."""
        return max(map(len, self.backend.get_vocab(with_added_tokens=True)), default=1)

    @cached_property
    def _units(self) -> dict[int, Unit | None]:
        return {}

    def id_of(self, token: str) -> int | None:
        """The id of exactly this token, or None."""
        index: int | None = self.backend.token_to_id(token)
        return index

    def token_of(self, index: int) -> str | None:
        """The token of exactly this id, or None."""
        token: str | None = self.backend.id_to_token(index) if 0 <= index < ID_LIMIT else None
        return token

    @cached_property
    def control(self) -> ControlTexts:
        """The control texts that are recognised inside a text.

        Those of `control_ids`, and what a tokenizer calls ordinary: a marker that the template
        writes, what has the shape of one, such as `<unused7>`, and a video's placeholder.
        """
        template = self.chat_template or ""
        found = {
            token.content
            for index, token in self.backend.get_added_tokens_decoder().items()
            if index in self.control_ids
            or (token.content[:1] == "<" and token.content in template)
            or CONTROL.fullmatch(token.content)
        }
        return ControlTexts(frozenset(text for text in (*found, VIDEO) if len(text) > 1))

    @cached_property
    def vocab_size(self) -> int:
        """The highest id plus one: what the model's vocabulary has to hold."""
        ids: dict[str, int] = self.backend.get_vocab(with_added_tokens=True)
        return max(ids.values(), default=-1) + 1


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder; tokenizer_config.json may be missing."""
    folder = Path(folder)
    backend = _load_backend(folder / "tokenizer.json")
    config = read_optional(folder / "tokenizer_config.json")
    special_tokens = _special_tokens(config, backend)
    return Tokenizer(
        folder=folder,
        backend=backend,
        special_tokens=special_tokens,
        control_ids=_mark_control(backend, {*special_tokens.values(), *CHAT_MARKERS}),
        chat_template=find_template(folder, config),
    )


def _load_backend(path: Path) -> tokenizers.Tokenizer:
    if not is_there(path):
        raise CheckpointError(
            f"{path}: not found, expected the checkpoint's tokenizer; "
            "copy tokenizer.json from the model's repository."
        )
    content = read_text(path)
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing more exact
        raise CheckpointError(
            f"{path}: {one_line(error)[:200]}, expected a tokenizer; download the file again."
        ) from error
    if other := other_decoder(backend):
        raise CheckpointError(
            f"{path}: decoder {other}, expected Gemma's, in which each token has its own text; "
            "download the file again."
        )
    backend.no_truncation()  # a file may ask for either; prompts are neither cut nor padded
    backend.no_padding()
    return backend


def _special_tokens(config: Mapping[str, object], backend: tokenizers.Tokenizer) -> dict[str, str]:
    """Tokens that `tokenizer_config.json` names: each `*_token` that is a string or has one.

    null there takes Gemma's name away: this tokenizer has no such token.
    """
    named = {
        name: token
        for name, token in GEMMA_TOKENS.items()
        if backend.token_to_id(token) is not None
    }
    for name, entry in config.items():
        token = entry.get("content") if isinstance(entry, dict) else entry
        if name.endswith("_token") and isinstance(token, str):
            named[name] = token
        elif token is None:
            named.pop(name, None)
    return named


def _mark_control(backend: tokenizers.Tokenizer, named: Iterable[str]) -> frozenset[int]:
    """Ids of all control tokens; those not yet recognised inside a text are from here on.

    Only tokens the vocabulary holds count: adding others would invent ids the model does not know.
    """
    import tokenizers

    added = backend.get_added_tokens_decoder()
    control = {index for index, token in added.items() if token.special}
    known = {token: index for token in named if (index := backend.token_to_id(token)) is not None}
    unseen = sorted(token for token, index in known.items() if index not in added)
    backend.add_special_tokens(
        [tokenizers.AddedToken(token, special=True, normalized=False) for token in unseen]
    )
    return frozenset(control | set(known.values()))
