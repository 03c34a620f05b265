"""A tokenizer in the manner of Gemma's, small enough to be built for each run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

FIXTURES = Path(__file__).parent / "fixtures"
SPECIAL = {
    "<pad>": 0,
    "<eos>": 1,
    "<bos>": 2,
    "<unk>": 3,
    "<|tool>": 46,
    "<tool|>": 47,
    "<|tool_call>": 48,
    "<tool_call|>": 49,
    "<|tool_response>": 50,
    "<tool_response|>": 51,
    '<|"|>': 52,
    "<|think|>": 98,
    "<|channel>": 100,
    "<channel|>": 101,
    "<|turn>": 105,
    "<turn|>": 106,
    "<|image>": 180,
    "<|image|>": 181,
    "<image|>": 182,
    "<|video|>": 183,
}
NEWLINE, FIRST_BYTE, FIRST_LETTER = 107, 200, 500
MERGES = [("s", "k"), ("sk", "y"), ("▁", "sky"), ("t", "h"), ("▁", "th"), ("▁th", "e")]
CONFIG = {
    "bos_token": "<bos>",
    "eos_token": {"__type": "AddedToken", "content": "<eos>", "special": True},
    "pad_token": "<pad>",
    "eot_token": "<turn|>",
    "mask_token": "<mask>",
    "add_bos_token": True,
}


def build_backend() -> Backend:
    """BPE with byte fallback and " " -> "▁"; ids as in the released tokenizer, with holes."""
    vocab = {**SPECIAL, "\n": NEWLINE}
    vocab |= {f"<0x{byte:02X}>": FIRST_BYTE + byte for byte in range(256)}
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    pieces = [*letters, *(left + right for left, right in MERGES)]
    vocab |= {piece: FIRST_LETTER + index for index, piece in enumerate(pieces)}
    backend = Backend(
        models.BPE(vocab=vocab, merges=MERGES, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    return backend


def write_folder(folder: Path, template: str | None = None, backend: Backend | None = None) -> Path:
    """A checkpoint folder with a tokenizer, its config and, where given, a template."""
    (backend or build_backend()).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder without a chat template."""
    return write_folder(tmp_path)


@pytest.fixture
def tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of `folder`."""
    return load_tokenizer(folder)


@pytest.fixture
def with_template(tmp_path: Path) -> Callable[[str], Tokenizer]:
    """A tokenizer with the chat template of this source, or of this file in fixtures/."""

    def load(template: str) -> Tokenizer:
        file = FIXTURES / template
        source = file.read_text() if template.endswith(".jinja") else template
        return load_tokenizer(write_folder(tmp_path, source))

    return load


@pytest.fixture
def backend() -> Backend:
    """The bare library object, to be changed before it is saved."""
    return build_backend()
