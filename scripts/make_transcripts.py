#!/usr/bin/env python3
"""Write tests/serve/dialects/*/golden: each kind of stream as each dialect sends it, byte for byte.

    .venv/bin/python scripts/make_transcripts.py            write all files
    .venv/bin/python scripts/make_transcripts.py messages   only those of one dialect

The events are those of tests/serve/transcripts.py. Write them again when a dialect is meant to send
something else, and read what changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from mlx_diffgemma.serve.dialects.dialect import Dialect
from mlx_diffgemma.serve.dialects.routes import MESSAGES, RESPONSES

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / "serve")]
openai_kinds, transcripts = map(import_module, ("openai_kinds", "transcripts"))

DIALECTS: Mapping[str, Dialect] = {"messages": MESSAGES, "responses": RESPONSES}


def streams() -> dict[str, dict[str, str]]:
    """The kinds of streams by their dialects."""
    alike = {
        name: {kind: transcripts.transcript(dialect, kind) for kind in transcripts.KINDS}
        for name, dialect in DIALECTS.items()
    }
    own = {
        name: {kind: openai_kinds.spoken(name, kind) for kind in kinds}
        for name, (_, kinds) in openai_kinds.DIALECTS.items()
    }
    return {**alike, **own}


def main() -> None:
    """Write the transcripts of the dialects that are named, of all where none is."""
    known = streams()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dialects", nargs="*", choices=[[], *known], metavar="DIALECT")
    for name in parser.parse_args().dialects or known:
        for kind, text in known[name].items():
            path = transcripts.stored(name, kind)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, newline="")


if __name__ == "__main__":
    main()
