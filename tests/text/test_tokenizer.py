"""Text to ids and back, and what is said about a folder whose tokenizer does not load."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from facts import raises
from tokenizers import Tokenizer as Backend

from mlx_diffgemma.errors import CheckpointError, PromptError
from mlx_diffgemma.text.tokenizer import LONG, Tokenizer, load_tokenizer

SUDOKU = Path(__file__).parents[2] / "mlx_diffgemma" / "assets" / "tiny-sudoku"
EMOJI = "sky 😀!"


def assert_fails(folder: Path, file: str, *facts: str) -> None:
    """Loading this folder ends with an error that names the file and says the facts."""
    with raises(CheckpointError, folder / file, *facts):
        load_tokenizer(folder)


def set_config(folder: Path, **entries: object) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize(
    "text",
    ["", "Why is the sky blue?", " two  blanks ", "tab\tand\r\nline", EMOJI, "日本語", "▁", "\x00"],
)
def test_round_trip(tokenizer: Tokenizer, text: str) -> None:
    expected = text.replace("▁", " ")  # Gemma's normaliser makes the two one
    assert tokenizer.decode(tokenizer.encode(text)) == expected


def test_encode_merges_and_adds_no_bos(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the sky")
    assert tokenizer.id_of("▁sky") in ids
    assert tokenizer.id_of("<bos>") not in ids


def test_control_tokens_in_a_text_are_recognised(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("<bos><|turn><|channel>") == [2, 105, 100]


def test_decode_drops_control_tokens_unless_asked(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode('<bos><|turn>sky<|"|><turn|>')
    assert tokenizer.decode(ids) == "sky"
    assert tokenizer.decode(ids, special=True) == '<bos><|turn>sky<|"|><turn|>'


def test_half_a_character_is_replaced(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(EMOJI)
    start = ids.index(tokenizer.encode("😀")[0])
    cuts = [tokenizer.decode(ids[: start + count]) for count in range(5)]
    assert cuts == ["sky ", "sky \ufffd", "sky \ufffd\ufffd", "sky \ufffd\ufffd\ufffd", "sky 😀"]
    assert tokenizer.decode(ids[start + 2 :]) == "\ufffd\ufffd!"


@pytest.mark.parametrize("outside", [-1, 150, 10_000, 2**32, 2**70])
def test_ids_outside_the_vocabulary_are_left_out(tokenizer: Tokenizer, outside: int) -> None:
    ids = tokenizer.encode("sky")
    assert tokenizer.decode([outside, *ids, outside]) == "sky"
    assert tokenizer.decode([outside], special=True) == ""


def test_vocab_size_is_the_highest_id_plus_one(tokenizer: Tokenizer, backend: Backend) -> None:
    ids = backend.get_vocab().values()
    assert tokenizer.vocab_size == max(ids) + 1 > len(ids)


def test_id_of(tokenizer: Tokenizer) -> None:
    assert tokenizer.id_of("<|channel>") == 100
    assert tokenizer.id_of("<|unheard>") is None


def test_invalid_unicode_is_a_prompt_error(tokenizer: Tokenizer) -> None:
    """An argument that is no UTF-8 reaches Python as half surrogates."""
    with raises(PromptError, "U+DCFF at character 3 ... valid Unicode ... UTF-8"):
        tokenizer.encode("sky\udcff")


def test_special_tokens_are_named_as_the_config_names_them(folder: Path) -> None:
    set_config(folder, bos_token={"content": "<|turn>"}, pad_token=None)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.special_tokens["bos_token"] == "<|turn>"
    assert tokenizer.special_tokens == {
        "bos_token": "<|turn>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
        "eot_token": "<turn|>",
        "mask_token": "<mask>",
    }


def test_without_a_config_the_tokens_have_gemmas_names(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    tokenizer = load_tokenizer(folder)
    assert tokenizer.special_tokens["bos_token"] == "<bos>"
    assert tokenizer.chat_template is None


def test_markers_that_are_ordinary_vocabulary_become_control(folder: Path) -> None:
    """A file may hold the markers without listing them as added tokens."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["added_tokens"] = []
    path.write_text(json.dumps(content))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("<|turn>sky<turn|>") == [105, *tokenizer.encode("sky"), 106]
    assert tokenizer.decode([105, 106]) == ""
    assert tokenizer.id_of("<mask>") is None  # named by the config, unknown to the vocabulary


def test_truncation_and_padding_in_the_file_are_not_applied(
    tmp_path: Path, backend: Backend
) -> None:
    backend.enable_truncation(2)
    backend.enable_padding(length=8)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert len(load_tokenizer(tmp_path).encode("abc")) == 3


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert_fails(folder, "tokenizer.json", "not found ... copy tokenizer.json ... repository")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOF ... line 1 column 0"),
        (b"version https://git-lfs\n", "expected value ... line 1 column 1"),
        (b"[]", "sequence ... Tokenizer ... line 1 column 2"),
        (b"\xff\xfe", "UTF-8 ... 0xff"),
    ],
)
def test_corrupt_tokenizer(folder: Path, content: bytes, reason: str) -> None:
    (folder / "tokenizer.json").write_bytes(content)
    assert_fails(folder, "tokenizer.json", reason, "expected ... download")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "property name ... line 1 column 2 (char 1)"),
        (b"[]", "list"),
        (b"\xff{}", "UTF-8 ... 0xff"),
    ],
)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
def test_corrupt_json(folder: Path, name: str, content: bytes, reason: str) -> None:
    (folder / name).write_bytes(content)
    assert_fails(folder, name, reason, "expected a JSON object ... download")


def test_corrupt_template_file(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    why = "UTF-8 ... 0xff ... expected UTF-8 text ... download"
    assert_fails(folder, "chat_template.jinja", why)


def test_places_of_the_template(folder: Path) -> None:
    """The file goes before chat_template.json, and that before tokenizer_config.json."""
    assert load_tokenizer(folder).chat_template is None
    set_config(folder, chat_template="config")
    assert load_tokenizer(folder).chat_template == "config"
    (folder / "chat_template.json").write_text('{"chat_template": "processor"}')
    assert load_tokenizer(folder).chat_template == "processor"
    (folder / "chat_template.jinja").write_text("file")
    assert load_tokenizer(folder).chat_template == "file"


MARK = "\ufeff"


def test_a_byte_order_mark_is_no_part_of_a_template(folder: Path) -> None:
    """Bug: it became a token in front of <bos>."""
    (folder / "chat_template.jinja").write_text(f"{MARK}{{{{ bos_token }}}}a\r\nb")
    assert load_tokenizer(folder).chat_template == "{{ bos_token }}a\nb"


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_byte_order_mark_changes_no_tokenizer(folder: Path, name: str) -> None:
    before = load_tokenizer(folder)
    (folder / name).write_text(MARK + (folder / name).read_text())
    after = load_tokenizer(folder)
    assert after.encode("<bos>the sky") == before.encode("<bos>the sky")
    assert after.special_tokens == before.special_tokens


def test_named_templates(folder: Path) -> None:
    tool_use = {"name": "tool_use", "template": "tools"}
    set_config(folder, chat_template=[tool_use])
    assert load_tokenizer(folder).chat_template == "tools"
    set_config(folder, chat_template=[tool_use, {"name": "default", "template": "plain"}])
    assert load_tokenizer(folder).chat_template == "plain"


@pytest.mark.parametrize(
    ("entry", "got"),
    [
        (7, "int"),
        ([], "list"),
        (
            [{"name": "rag", "template": "r"}, {"name": "tool_use", "template": "t"}],
            "templates named ['rag', 'tool_use']",
        ),
    ],
)
def test_no_template_to_choose(folder: Path, entry: object, got: str) -> None:
    set_config(folder, chat_template=entry)
    what = f"chat_template is {got} ... a text or a list ... 'default' ... chat_template.jinja"
    assert_fails(folder, "tokenizer_config.json", what)


def test_the_embedded_tokenizer() -> None:
    if not (SUDOKU / "tokenizer.json").is_file():
        pytest.skip("not checked: the embedded tokenizer, assets/tiny-sudoku is not there yet")
    tokenizer = load_tokenizer(SUDOKU)
    grid = "1..4\n..3."
    assert tokenizer.encode(grid) == [49, 46, 46, 52, 10, 46, 46, 51, 46]
    assert tokenizer.decode(tokenizer.encode(f"<bos>{grid}<turn|>")) == grid
    assert tokenizer.vocab_size == 128
    assert tokenizer.id_of("<|channel>") is None


def test_neither_transformers_nor_a_notice(folder: Path) -> None:
    """Importing transformers costs most of a second and prints about PyTorch on stderr."""
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    program = f"""
import sys
import mlx_diffgemma
before = set(sys.modules)
from pathlib import Path
from mlx_diffgemma.text import chat, tokenizer
assert not {{"tokenizers", "jinja2"}} & (set(sys.modules) - before), "imported before its use"
chat.render_prompt(tokenizer.load_tokenizer(Path({str(folder)!r})), [chat.Message("user", "sky")])
assert not {{"transformers", "mlx_lm", "torch"}} & (set(sys.modules) - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_text_that_no_context_holds_is_refused_before_it_is_encoded(tokenizer: Tokenizer) -> None:
    """A token has 16 characters at most, so that 10 of them hold 160."""
    short = replace(tokenizer, most=10)
    assert max(map(len, tokenizer.backend.get_vocab())) == 16
    assert len(short.encode("z" * 160)) == 160
    with pytest.raises(PromptError, match=r"161 characters.* 11 tokens at least.* 10;") as caught:
        short.encode("z" * 161)
    assert caught.value.too_long


def test_a_long_text_has_the_ids_of_a_short_one(tokenizer: Tokenizer) -> None:
    """It is encoded in another way, which leaves their turns to other threads."""
    line = "the sky 😀 <|turn>日\n"
    times = LONG // len(line) + 1
    assert tokenizer.encode(line * times) == tokenizer.encode(line) * times
    assert tokenizer.encode_text(line * times) == tokenizer.encode_text(line) * times
