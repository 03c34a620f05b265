"""Files and names that are odd, through the commands that read them: one line, and no more.

A new reader is one row of FILES; a new kind of bad content one row of CONTENTS.
"""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from puzzle import PUZZLE, SOLVE, assert_one_line

Run = Callable[..., Any]
SHORT = ("--raw", "--steps", "1", "--max-tokens", "1")

# What parse_json refuses is in tests/machine/test_files.py; here one of each exception it was.
CONTENTS: dict[str, tuple[bytes, str]] = {
    "nested": (b"[" * 200_000, "nested"),
    "a number beyond a double": (b'{"a": 1e999}', "1e999"),
    "digits without end": (b'{"a": 1%s}' % (b"0" * 9000), "9,001 digits"),
    "a key twice": (b'{"a": 1, "a": 2}', "'a' ... twice"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "UTF-8 ... 0xff"),
}


def header(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


Wrap = Callable[[bytes], bytes]
FILES: dict[str, tuple[tuple[str, ...], Wrap]] = {
    "config.json": (("generate", "--model", "FOLDER", PUZZLE, *SHORT), bytes),
    "generation_config.json": (("info", "FOLDER"), bytes),
    "model.safetensors.index.json": (("info", "FOLDER"), bytes),
    "model.safetensors": (("info", "FOLDER"), header),
    "tokenizer_config.json": (("generate", "--model", "FOLDER", PUZZLE), bytes),
    "chat_template.json": (("info", "FOLDER"), bytes),
    "conversion.json": (("convert", "FOLDER", "--verify"), bytes),
    "trace.jsonl": (("replay", "FILE"), bytes),
    "profile.json": (("profile", "compare", "FILE", "FILE"), bytes),
    "talk.json": (("chat", "--model", "tiny-sudoku", "--load", "FILE"), bytes),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def command(words: tuple[str, ...], file: Path) -> list[str]:
    places = {"FOLDER": str(file.parent), "FILE": str(file)}
    return [places.get(word, word) for word in words]


@pytest.mark.parametrize(("content", "said"), CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("name", FILES)
def test_bad_json_is_one_line(
    run: Run, sudoku_copy: Path, name: str, content: bytes, said: str
) -> None:
    """Bug: five of these readers gave a traceback for one of them, or did not end."""
    words, wrap = FILES[name]
    (sudoku_copy / name).write_bytes(wrap(content))
    before = contents(sudoku_copy)
    assert_one_line(run(*command(words, sudoku_copy / name)), 1, name, said)
    assert contents(sudoku_copy) == before


def test_a_broken_file_of_choices_is_one_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, said = CONTENTS["nested"]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "mlx-diffgemma" / "tune.json"
    file.parent.mkdir()
    file.write_bytes(content)
    done = run(*SOLVE)
    assert done.exit_code == 0
    assert_says(done.stderr.removesuffix("\n"), "warning:", file, said, "profile --tune")
    assert file.read_bytes() == content


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_changes_nothing(
    run: Run, sudoku_copy: Path, mark: bytes, name: str
) -> None:
    file = sudoku_copy / name
    file.write_bytes(mark + file.read_bytes())
    done = run("info", sudoku_copy, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["stop_ids"] == [1]
    assert run("generate", "--model", sudoku_copy, "x", *SHORT).exit_code == 0


LOST = ["generation_config.json", "tokenizer_config.json", "tokenizer.json", "config.json"]


@pytest.mark.parametrize(
    "name", [*LOST, "chat_template.jinja", "chat_template.json", "model.safetensors.index.json"]
)
def test_a_lost_file_is_never_no_file(run: Run, sudoku_copy: Path, name: str) -> None:
    """Bug: a link to nothing gave other settings and another template, without a word."""
    (sudoku_copy / name).unlink(missing_ok=True)
    (sudoku_copy / name).symlink_to(sudoku_copy / "gone")
    out = sudoku_copy.parent / "out"
    for words in (
        ("info", sudoku_copy),
        ("generate", "--model", sudoku_copy, PUZZLE, *SHORT),
        ("convert", sudoku_copy, out),
    ):
        assert_one_line(run(*words), 1, name, "link to nothing")
    assert not out.exists()


@pytest.mark.parametrize("name", ["processor_config.json", "special_tokens_map.json"])
def test_a_conversion_leaves_out_no_lost_file(run: Run, sudoku_copy: Path, name: str) -> None:
    (sudoku_copy / name).unlink(missing_ok=True)
    (sudoku_copy / name).symlink_to(sudoku_copy / "gone")
    done = run("convert", sudoku_copy, sudoku_copy.parent / "out")
    assert_one_line(done, 1, name, "link to nothing")


# --- numbers


def set_key(place: str, value: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        config = json.loads(text)
        *above, last = place.split(".")
        at = config
        for key in above:
            at = at[key]
        at[last] = "@"
        return json.dumps(config).replace('"@"', value)

    return change


NUMBERS: dict[str, tuple[str, str]] = {
    "text_config.num_hidden_layers": ("1000000000", "1000000000 ... 1,024"),
    "text_config.vocab_size": ("2147483648", "2147483648 ... 2,147,483,647"),
    "text_config.rms_norm_eps": ("1e308", "1e+308"),
    "text_config.sliding_window": ("16.0", "16.0"),
    "canvas_length": ("1e3", "1000.0"),
    "quantization": ('{"bits": 8.0, "group_size": 64}', "8.0 bits"),
}


@pytest.mark.parametrize(("place", "number"), NUMBERS.items(), ids=NUMBERS)
def test_a_number_out_of_its_range_is_named(
    run: Run, sudoku_copy: Path, place: str, number: tuple[str, str]
) -> None:
    """Bug: 10**9 layers ran for a minute, 8.0 bits to a traceback."""
    file, (value, said) = sudoku_copy / "config.json", number
    text = json.loads(file.read_text())
    text["text_config"].pop("layer_types", None)
    file.write_text(set_key(place, value)(json.dumps(text)))
    assert_one_line(run("info", sudoku_copy), 1, "config.json", said)


def change_header(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    entries = json.loads(content[8 : 8 + length])
    first = next(name for name in entries if name != "__metadata__")
    change(entries[first])
    file.write_bytes(header(json.dumps(entries).encode()) + content[8 + length :])


def offsets(change: Callable[[int, int], Any]) -> Callable[[dict[str, Any]], object]:
    return lambda entry: entry.update(data_offsets=change(*entry["data_offsets"]))


def shape(change: Callable[[list[int]], Any]) -> Callable[[dict[str, Any]], object]:
    return lambda entry: entry.update(shape=change(entry["shape"]))


HEADERS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "fractions": (offsets(lambda a, b: [float(a), float(b)]), "offset is 0.0"),
    "below 0": (offsets(lambda a, b: [-8, b - a - 8]), "offset is -8"),
    "beyond 64 bits": (offsets(lambda a, b: [2**64, 2**64 + b - a]), f"offset is {2**64}"),
    "true": (offsets(lambda a, b: [False, b]), "offset is False"),
    "a text": (offsets(lambda a, b: "ab"), "offset is 'a'"),
    "three": (offsets(lambda a, b: [a, b, b]), "too many values"),
    "nothing": (offsets(lambda a, b: None), "safetensors"),
    "a size that is a fraction": (shape(lambda sizes: [float(n) for n in sizes]), "size is 128.0"),
    "a size that is a text": (shape(lambda sizes: ["128", 128]), "size is '128'"),
    "sizes below 0": (shape(lambda sizes: [-n for n in sizes]), "size is -128"),
    "a huge product": (shape(lambda sizes: [2**62] * 300), "32768 bytes for F16"),
    "an odd dtype": (lambda entry: entry.update(dtype=["F32"]), "dtype ['F32']"),
}


@pytest.mark.parametrize(("change", "said"), HEADERS.values(), ids=HEADERS)
def test_a_header_is_read_strictly(
    run: Run, sudoku_copy: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    """Bug: offsets that are fractions were taken, and MLX read noise."""
    change_header(sudoku_copy / "model.safetensors", change)
    assert_one_line(run("info", sudoku_copy), 1, "model.safetensors", said)


# --- names


@pytest.fixture
def odd_folder(sudoku_copy: Path) -> Path:
    """A copy of tiny-sudoku under a name that is no UTF-8; a Mac's disks take none."""
    place = sudoku_copy.with_name("odd\udcff")
    try:
        shutil.move(sudoku_copy, place)
    except OSError:
        pytest.skip("this disk takes names in UTF-8 alone: another name was not tried")
    return place


def test_a_folder_may_have_any_name(run: Run, odd_folder: Path) -> None:
    """Bug: "std::bad_cast; download it again", and a traceback from --trace and /save."""
    trace, talk = odd_folder.parent / "trace\udcfe", odd_folder.parent / "talk.json"
    done = run("generate", "--model", odd_folder, PUZZLE, *SHORT, "--json", "--trace", trace)
    assert done.exit_code == 0, done.output
    assert os.fsencode(json.loads(done.stdout)["model"]["path"]) == os.fsencode(odd_folder)
    assert run("replay", trace).exit_code == 0
    assert run("info", odd_folder).exit_code == 0
    assert run("convert", odd_folder, odd_folder.parent / "out\udcff").exit_code == 0
    chat = ("chat", "--seed", "1")
    saving = run(*chat, "--model", odd_folder, input=f"{PUZZLE}\n/save {talk}\n")
    assert saving.exit_code == 0, saving.output
    assert run(*chat, "--model", "tiny-sudoku", "--load", talk, input="").exit_code == 0


TEXTS: dict[str, tuple[str, ...]] = {
    "PROMPT": ("generate", "a\udcff"),
    "--system": ("generate", "x", "--system", "a\udcff"),
    "--stop": ("generate", "x", "--stop", "ok", "--stop", "a\udcff"),
    "TEMPLATE": ("fill", "a\udcff"),
    "--prompt": ("fill", "[[...]]", "--prompt", "a\udcff"),
    "--revision": ("convert", "owner/model", "out", "--revision", "a\udcff"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_utf8_is_a_wrong_argument(run: Run, name: str) -> None:
    assert_one_line(run(*TEXTS[name]), 2, f"{name}: ... UTF-8 ... 0xff ... character 2")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\nb", r"a\nb"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\0b", r"a\x00b"),
        ("a\udcff", r"a\udcff"),
        ("x" * 100_000, "..."),
        ("owner/" + "x" * 100_000, "owner/"),
    ],
)
def test_a_name_stays_in_its_line(run: Run, name: str, said: str) -> None:
    for words in (("info", name), ("generate", "--model", name, "x"), ("convert", name, "out")):
        done = run(*words)
        assert done.exit_code == 1
        assert said in done.stderr
        assert len(done.stderr) < 400
        assert done.stderr.count("\n") == 1


def test_a_long_line_is_cut_in_its_middle(run: Run, tmp_path: Path) -> None:
    done = run("replay", tmp_path / ("x" * 100_000))
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: the trace cannot be read: {tmp_path}/x")
    assert done.stderr.endswith("File name too long.\n")
    assert len(done.stderr) < 2100
