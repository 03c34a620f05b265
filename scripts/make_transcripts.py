#!/usr/bin/env python3
"""Write tests/serve/*/golden: each kind of stream as each dialect sends it, byte for byte.

    .venv/bin/python scripts/make_transcripts.py            write all files
    .venv/bin/python scripts/make_transcripts.py messages   only those of one dialect

The events are those of tests/serve/transcripts.py. Write them again when a dialect is meant to send
something else, and read what changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / "serve")]

from transcripts import KINDS, stored, transcript

from mlx_diffgemma.serve.dialect import Dialect
from mlx_diffgemma.serve.messages.dialect import MESSAGES
from mlx_diffgemma.serve.responses.dialect import RESPONSES

DIALECTS: Mapping[str, Dialect] = {"messages": MESSAGES, "responses": RESPONSES}


def main() -> None:
    """Write the transcripts of the dialects that are named, of all where none is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dialects", nargs="*", choices=[[], *DIALECTS], metavar="DIALECT")
    for name in parser.parse_args().dialects or DIALECTS:
        for kind in KINDS:
            path = stored(name, kind)
            path.parent.mkdir(exist_ok=True)
            path.write_text(transcript(DIALECTS[name], kind), newline="")


if __name__ == "__main__":
    main()
