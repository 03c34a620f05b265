#!/usr/bin/env python3
"""Data that teaches tiny-chat an answer form which it lacks, and tests of it, as JSON lines.

    python scripts/make_lesson.py dots FOLDER
    mlx-diffgemma finetune --model tiny-chat --data FOLDER --mix FOLDER/known.jsonl:0.5 --out OUT

FOLDER gets train.jsonl, examples of the lesson; test.jsonl, prompts of contents that are not in it;
known.jsonl, examples of all that tiny-chat knows, to be mixed in; known-test.jsonl, prompts of
that, of contents that nobody trained on. The same seed makes the same files.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from tiny_chat.example import Example
from tiny_chat.lessons import LESSONS, known, known_tests, learned, line, questions


def main() -> None:
    args = arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    write(args.folder / "train.jsonl", learned(args.lesson, args.number, args.seed))
    write(args.folder / "test.jsonl", questions(args.lesson, args.tests))
    write(args.folder / "known.jsonl", known(args.number, args.seed))
    write(args.folder / "known-test.jsonl", known_tests(args.known_tests))


def write(path: Path, examples: Iterable[Example]) -> None:
    path.write_text("".join(f"{json.dumps(line(example))}\n" for example in examples))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "lesson",
        choices=LESSONS,
        help="dots: words spelled with dots; roman: numbers up to 99",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the files go")
    parser.add_argument("--number", type=int, default=2000, help="examples of each kind [2000]")
    parser.add_argument("--tests", type=int, default=104, help="prompts of the lesson [104]")
    parser.add_argument("--known-tests", type=int, default=10, help="prompts a known skill [10]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the examples [0]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
