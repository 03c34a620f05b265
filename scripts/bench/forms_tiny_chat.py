#!/usr/bin/env python3
"""Answers of tiny-chat with a form and without: valid ones, right ones, steps, strain.

    python scripts/bench/forms_tiny_chat.py --json scripts/bench/results/NAME.json
    python scripts/bench/forms_tiny_chat.py --table scripts/bench/results/NAME.json

Held-out prompts of three skills, each asked in every way with the same seed in all: records as JSON
under the schema of their members, tool calls with `tool_choice="required"`, and yes or no with
`choices=["Yes.", "No."]`. Both modes take part; ar at temperature 0. Valid: the text is JSON with
the members of the schema, in its order; the call is read back; the text is one of the choices.
Right: the same record, call or choice. Exact: also the same white space, where a form leaves it.

    python scripts/bench/forms_tiny_chat.py --beside --number 20

Records and calls alone, each with a schema and tools beside each other, the other one's from the
prompt of the same number, and `tool_choice="auto"`: does the model choose what it is asked for?
"""

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from report import environment, progress
from sudoku import as_json
from tiny_chat.example import Example
from tiny_chat.skills import held_out

import mlx_diffgemma as dg
from mlx_diffgemma.text.tools import CALL_CLOSING, CALL_OPENING, ToolCall, parse_tool_call

MAX_TOKENS = 320  # five canvases
MODES: dict[str, dict[str, Any]] = {
    "diffusion": {},
    "ar": {"mode": "ar", "temperature": 0.0},
}
FREE, HELD, BESIDE = "free", "with a form", "schema or tools"


@dataclass(frozen=True)
class Attempt:
    """One prompt answered once; canvases, steps: 0 in mode ar; strain: None without a form."""

    skill: str
    mode: str
    way: str
    seed: int
    text: str
    valid: bool
    right: bool
    exact: bool
    canvases: int
    steps: int
    tokens: int
    strain: float | None
    settled: int | None


@dataclass(frozen=True)
class Skill:
    """A skill, the form of its answers, and what of a reply is valid and right."""

    name: str
    options: Callable[[Example], dict[str, Any]]
    form: Callable[[Example], dict[str, Any]]
    valid: Callable[[dg.Reply, Example], bool]
    right: Callable[[dg.Reply, Example], bool]
    exact: Callable[[dg.Reply, Example], bool] | None = None  # where it is not the same


def schema_of(example: Example) -> dict[str, Any]:
    """The schema of the record that a prompt asks for: its members, all of them, in its order."""
    record = json.loads(example.answer)
    kinds = {
        name: "integer" if isinstance(value, int) else "string" for name, value in record.items()
    }
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in kinds.items()},
        "required": list(kinds),
        "additionalProperties": False,
    }


def is_record(reply: dg.Reply, example: Example) -> bool:
    try:
        found = json.loads(reply.text)
    except ValueError:
        return False
    wanted = json.loads(example.answer)
    if not isinstance(found, dict) or list(found) != list(wanted):
        return False
    return all(type(found[name]) is type(wanted[name]) for name in wanted)


def is_the_record(reply: dg.Reply, example: Example) -> bool:
    return is_record(reply, example) and json.loads(reply.text) == json.loads(example.answer)


def call_of(example: Example) -> ToolCall | None:
    return parse_tool_call(example.answer.removeprefix(CALL_OPENING).removesuffix(CALL_CLOSING))


def is_text(reply: dg.Reply, example: Example) -> bool:
    return reply.text == example.answer


CHOICES = ["Yes.", "No."]
SKILLS = (
    Skill(
        "JSON",
        lambda e: {},
        lambda e: {"schema": schema_of(e)},
        is_record,
        is_the_record,
        exact=is_text,
    ),
    Skill(
        "tool call",
        lambda e: {"tools": list(e.tools)},
        lambda e: {"tool_choice": "required"},
        lambda reply, _: len(reply.tool_calls) == 1 and not reply.text,
        lambda reply, e: reply.tool_calls == (call_of(e),),
    ),
    Skill(
        "yes or no",
        lambda e: {},
        lambda e: {"choices": CHOICES},
        lambda reply, _: reply.text in CHOICES,
        is_text,
    ),
)


def main() -> None:
    args = arguments()
    if args.table:
        print(table(read_attempts(args.table)))
        return
    session, attempts = dg.load("tiny-chat"), list[Attempt]()
    records, calls = (list(held_out(skill.name, args.number)) for skill in SKILLS[:2])
    for skill in SKILLS[:2] if args.beside else SKILLS:
        for seed, example in enumerate(held_out(skill.name, args.number)):
            options = skill.options(example)
            ways = {FREE: options, HELD: {**options, **skill.form(example)}}
            if args.beside:
                ways = {BESIDE: {"schema": schema_of(records[seed]), "tools": calls[seed].tools}}
            attempts += [
                attempt(session, skill, example, mode, way, seed, given)
                for mode in MODES
                for way, given in ways.items()
            ]
        progress(f"{skill.name}: {len(attempts)} answers so far")
    print(table(attempts))
    if args.json:
        content = {
            "command": shlex.join(["scripts/bench/forms_tiny_chat.py", *sys.argv[1:]]),
            **environment("mlx", "mlx-diffgemma", "numpy"),
        }
        args.json.write_text(as_json(content, attempts))


def read_attempts(file: Path) -> list[Attempt]:
    """The answers that a run has kept."""
    kept = json.loads(file.read_text())
    return [Attempt(**dict(zip(kept["columns"], row, strict=True))) for row in kept["attempts"]]


def attempt(
    session: dg.Session,
    skill: Skill,
    example: Example,
    mode: str,
    way: str,
    seed: int,
    options: dict[str, Any],
) -> Attempt:
    settings = dg.Settings(seed=seed, max_tokens=MAX_TOKENS, **MODES[mode])
    session.reset()
    reply = session.ask(example.messages[-1]["content"], settings=settings, **options)
    told = reply.constraint
    return Attempt(
        skill=skill.name,
        mode=mode,
        way=way,
        seed=seed,
        text=reply.text,
        valid=skill.valid(reply, example),
        right=skill.right(reply, example),
        exact=(skill.exact or skill.right)(reply, example),
        canvases=reply.canvases,
        steps=sum(reply.steps),
        tokens=reply.generated_tokens,
        strain=told.strain if told else None,
        settled=told.settled if told else None,
    )


HEAD = (
    *("skill", "mode", "", "n", "valid", "right", "exact"),
    *("steps a canvas", "strain: median", "largest"),
)


def table(attempts: Sequence[Attempt]) -> str:
    """A line a skill, mode and way; below it how often a form keeps what is right without one."""
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for skill in SKILLS:
        for mode in MODES:
            for way in (FREE, HELD, BESIDE):
                chosen = [
                    a for a in attempts if (a.skill, a.mode, a.way) == (skill.name, mode, way)
                ]
                if chosen:
                    lines.append(f"| {' | '.join([skill.name, mode, way, *cells(chosen)])} |")
    compared = [
        skill for skill in SKILLS if (skill.name, FREE) in {(a.skill, a.way) for a in attempts}
    ]
    return "\n".join([*lines, "", *map(kept_line(attempts), compared)])


def cells(chosen: Sequence[Attempt]) -> list[str]:
    canvases, strains = (
        sum(a.canvases for a in chosen),
        [a.strain for a in chosen if a.strain is not None],
    )
    return [
        str(len(chosen)),
        str(sum(a.valid for a in chosen)),
        str(sum(a.right for a in chosen)),
        str(sum(a.exact for a in chosen)),
        f"{sum(a.steps for a in chosen) / canvases:.2f}" if canvases else "",
        f"{statistics.median(strains):.1g}" if strains else "",
        f"{max(strains):.2g}" if strains else "",
    ]


def kept_line(attempts: Sequence[Attempt]) -> Callable[[Skill], str]:
    """The line of a skill: in diffusion, right answers that stay the same under the form."""

    def line(skill: Skill) -> str:
        own = [a for a in attempts if (a.skill, a.mode) == (skill.name, "diffusion")]
        free = {a.seed for a in own if a.way == FREE and a.right}
        held = {a.seed for a in own if a.way == HELD and a.right}
        return f"{skill.name}: {len(free & held)} of {len(free)} right answers stay so with a form"

    return line


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--number", type=int, default=100, help="prompts a skill at most [100]")
    parser.add_argument(
        "--beside", action="store_true", help="a schema beside tools, and that alone"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to keep the answers in")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the table of a file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
