"""Bad inputs, a seed each: a folder of files, a command line, and the only right answer to it."""

import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from damage import (
    VALUES,
    odd_bytes,
    odd_file,
    odd_image,
    odd_json,
    odd_lines,
    odd_shard,
    odd_template,
    written,
)
from puzzle import PUZZLE, SOLUTION

Argument = str | bytes | Path

SHORT = ("--seed", "1", "--steps", "12", "--max-tokens", "90")
"""Options with which a damaged network cannot take long: the whole one needs four steps."""


@dataclass
class Case:
    """A command on damaged input.

    answer: what standard output holds if the exit code is 0, None where several answers are right;
    config: own files of the program, instead of none; several: each of its inputs may be wrong.
    """

    argv: list[Argument]
    answer: str | None = SOLUTION
    stdin: bytes = b""
    config: Mapping[str, bytes] = field(default_factory=dict)
    must_work: bool = False
    several: bool = False


@dataclass(frozen=True)
class Good:
    """Whole files in one place, to be damaged: three checkpoint folders, two traces and so on.

    adapter: one for `plain`; trace: of a puzzle; tokens: of mode auto, with a canvas and tokens of
    mode ar behind it.
    """

    place: Path
    plain: Path
    packed: Path
    shards: Path
    adapter: Path
    trace: Path
    tokens: Path
    profile: Path
    conversation: Path


def copied(folder: Path, place: Path) -> Path:
    """A copy of a checkpoint that shares the weights through links, as the Hub's cache does."""
    place.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".safetensors":
            (place / file.name).symlink_to(file)
        elif file.suffix != ".md":
            shutil.copy(file, place)
    return place


def on_folder(rng: random.Random, folder: Path, place: Path) -> Case:
    """One of the commands that read a checkpoint folder."""
    model, answer = ["--model", folder, *SHORT], SOLUTION if has_a_task(folder) else None
    match rng.randrange(8):
        case 0:
            return Case(["info", folder, *rng.choice(([], ["--json"]))], answer=None)
        case 1:
            return Case(["convert", folder, place / "out", "--dry-run"], answer=None)
        case 2:
            recipe = rng.choice(("8bit", "4bit", "mxfp4", "none"))
            return Case(["convert", folder, place / "out", "--quantize", recipe], answer=None)
        case 3:
            return Case(["fill", PUZZLE, *model[:-2]], answer)
        case 4:
            return Case(["chat", *model], answer, stdin=f"{PUZZLE}\n".encode())
    return Case(["generate", PUZZLE, *model], answer)


def has_a_task(folder: Path) -> bool:
    """False where config.json no longer says that this is a solver: any text is an answer then."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        return "task" in config["mlx_diffgemma"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def bad_config(rng: random.Random, place: Path, good: Good) -> Case:
    folder = copied(rng.choice((good.plain, good.packed)), place / "model")
    odd_file(rng, folder / "config.json", odd_json)
    return on_folder(rng, folder, place)


def bad_generation_config(rng: random.Random, place: Path, good: Good) -> Case:
    folder = copied(good.plain, place / "model")
    odd_file(rng, folder / "generation_config.json", odd_json)
    return on_folder(rng, folder, place)


def bad_shard(rng: random.Random, place: Path, good: Good) -> Case:
    source = rng.choice((good.plain, good.packed, good.shards))
    folder = copied(source, place / "model")
    file = rng.choice(sorted(folder.glob("*.safetensors")))
    content = file.read_bytes()
    file.unlink()
    if rng.random() < 0.95:
        file.write_bytes(odd_shard(rng, content))
    else:
        file.symlink_to("gone")
    return on_folder(rng, folder, place)


def bad_index(rng: random.Random, place: Path, good: Good) -> Case:
    folder = copied(good.shards, place / "model")
    odd_file(rng, folder / "model.safetensors.index.json", odd_json)
    return on_folder(rng, folder, place)


def bad_adapter(rng: random.Random, place: Path, good: Good) -> Case:
    """Any text is an answer: numbers of an adapter may change without a trace of it."""
    folder = Path(shutil.copytree(good.adapter, place / "adapter"))
    if rng.random() < 0.5:
        odd_file(rng, folder / "adapter_config.json", odd_json)
    else:
        file = folder / "adapters.safetensors"
        file.write_bytes(odd_shard(rng, file.read_bytes()))
    given: list[Argument] = ["--model", good.plain, "--adapter", folder]
    if rng.random() < 0.3:
        recipe = rng.choice(("keep", "none", "8bit"))
        return Case(["fuse", *given, place / "out", "--quantize", recipe], answer=None)
    return Case(["generate", PUZZLE, *given, *SHORT], answer=None)


def bad_template(rng: random.Random, place: Path, good: Good) -> Case:
    folder = copied(good.plain, place / "model")
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    template = odd_template(rng, config["chat_template"])
    if rng.random() < 0.5:
        (folder / "chat_template.jinja").write_bytes(template.encode("utf-8", "surrogatepass"))
    else:
        file.write_text(json.dumps({**config, "chat_template": template}))
    return on_folder(rng, folder, place)


def bad_tokenizer(rng: random.Random, place: Path, good: Good) -> Case:
    folder = copied(good.plain, place / "model")
    name = rng.choice(("tokenizer.json", "tokenizer.json", "tokenizer_config.json"))
    odd_file(rng, folder / name, odd_json)
    return on_folder(rng, folder, place)


def bad_trace(rng: random.Random, place: Path, good: Good) -> Case:
    file = place / "trace.jsonl"
    tokens = rng.random() < 0.4
    file.write_bytes(odd_lines(rng, (good.tokens if tokens else good.trace).read_bytes()))
    match rng.randrange(4):
        case 0:
            return Case(["replay", file, "--svg", place / "out.svg"], answer="")
        case 1:
            return Case(["replay", file, "--html", place / "out.html"], answer="")
    return Case(["replay", file], answer=None if tokens else SOLUTION)


def bad_profile(rng: random.Random, place: Path, good: Good) -> Case:
    file = place / "profile.json"
    file.write_bytes(good.profile.read_bytes())
    odd_file(rng, file, odd_json)
    pair = [file, good.profile]
    rng.shuffle(pair)
    return Case(["profile", "compare", *pair, *rng.choice(([], ["--anyway"]))], answer=None)


def bad_conversation(rng: random.Random, place: Path, good: Good) -> Case:
    file = place / "chat.json"
    file.write_bytes(good.conversation.read_bytes())
    odd_file(rng, file, odd_json)
    argv = ["chat", "--load", file, "--model", "tiny-sudoku", *SHORT]
    return Case(argv, stdin=f"{PUZZLE}\n".encode())


def bad_own_file(rng: random.Random, place: Path, good: Good) -> Case:
    """What the program keeps for itself may be broken: everything runs all the same."""
    name = rng.choice(("tune.json", "kernels.json"))
    schema = {"schema": rng.choice((1, 2, 3)), "tuned": {"here": {}}, "verdicts": {}}
    content = rng.choice(
        (odd_bytes(rng, b'{"schema": 1, "tuned": {}}'), written(rng, odd_json(rng, schema)))
    )
    argv = ["generate", PUZZLE, "--model", "tiny-sudoku", *SHORT]
    return Case(argv, config={name: content}, must_work=True)


NUMBERS = (
    "0", "-1", "1", "7", "1e400", "nan", "inf", "-inf", "1e-320", "0.5", "٣", "1_000", "0x10",
    "9" * 400, str(2**64), str(2**63), "", " ", "--", "1,5", "8.0", "seven",
)  # fmt: skip
TEXTS: tuple[Argument, ...] = (
    "", " ", "\0", "\n", b"\xff\xfe", b"\xed\xa0\x80", "x" * 4000, "\x1b[31m", "-", "--", "-x",
    "[[...]]", "[[0]]", "[[99999999999]]", "[[", "🤖", PUZZLE, PUZZLE[:80], PUZZLE + "1",
    "1" * 81, "." * 81, "0" * 81,
)  # fmt: skip
SAMPLER = ("--max-tokens", "--seed", "--steps", "--entropy-bound", "--t-min", "--t-max",
           "--stability", "--confidence")  # fmt: skip
MODES = ("--mode", "--temperature", "--top-k", "--top-p", "--min-p", "--lookup", "--auto-times")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "generate": (*SAMPLER, *MODES, "--stop", "--system", "--dtype", "--think", "--raw", "--json"),
    "fill": (*SAMPLER, "--gap", "--prompt", "--system", "--dtype", "--raw", "--json"),
    "chat": (*SAMPLER, *MODES, "--stop", "--system", "--dtype", "--think"),
    "info": ("--context", "--dtype", "--json"),
    "convert": ("--quantize", "--group-size", "--embed-bits", "--attention-bits", "--experts-bits",
                "--revision", "--dry-run", "--verify"),
    "profile": ("--steps", "--context", "--canvases", "--prompts", "--seeds", "--max-tokens",
                "--seed", "--sustained"),
    "selftest": ("--json",),
    "replay": ("--speed",),
    "serve": ("--port", "--max-queue", "--keep", "--idle-unload", "--cors", "--allow-host",
              "--api-key", "--api-key-file", "--mode", "--json-log", "--dtype"),
}  # fmt: skip
FLAGS = ("--json", "--json-log", "--lookup", "--think", "--raw", "--dry-run", "--verify")


def bad_option(rng: random.Random, place: Path, good: Good) -> Case:
    """Options with odd values, unknown ones, some twice; a value may be missing."""
    command = rng.choice(tuple(OPTIONS))
    argv: list[Argument] = [command]
    answer: str | None = None
    match command:
        case "generate" | "fill":
            argv += [PUZZLE, "--model", "tiny-sudoku", "--steps", "4"]
        case "chat":
            argv += ["--model", "tiny-sudoku"]
        case "info":
            argv += ["tiny-sudoku"]
        case "convert":
            argv += ["tiny-sudoku", place / "out"]
        case "profile":  # never a whole measurement
            argv += ["--model", "tiny-sudoku", "--context", rng.choice(NUMBERS[:2])]
        case "selftest":
            argv += [rng.choice(("--json=1", "--jsn", "extra", "--link"))]
        case "replay":
            argv += [good.trace]
        case "serve":  # never a server
            argv += ["--model", "no/where", "--offline"]
    for _ in range(rng.choice((1, 1, 2, 3))):
        option = rng.choice((*OPTIONS[command], *OPTIONS[command], "--unknown", "-z"))
        argv.append(option)
        if option not in FLAGS and rng.random() < 0.95:
            argv.append(rng.choice((*NUMBERS, rng.choice(TEXTS))))
    if command == "replay" and "--speed" in argv:
        argv += ["--svg", place / "out.svg"]  # at what speed one could wait for ever
    return Case(argv, answer=answer)


PLACES: tuple[Argument, ...] = (
    "/", ".", "..", "~", "~nobody", "/dev/null", "/dev/full", "/dev/zero", "/dev/zero/x",
    "/proc/self/mem",
    "/proc/self/environ", "/root/x/y/z", "nowhere", "a/b/c", "x" * 300, "x/" * 3000, b"\xff\xfe",
    "\n", "-", "--", "", " ", "https://example.com/x", "google/", "/google", "a/b", "tiny-sudoku/",
    "tiny-sudokus", "TINY-SUDOKU", "\x1b]0;x\x07", "model.safetensors", "🤖/🤖",
)  # fmt: skip


def bad_name(rng: random.Random, place: Path, good: Good) -> Case:
    """Odd names of models, inputs and outputs."""
    name = rng.choice(PLACES)
    folder = copied(good.plain, place / "model")
    weights = folder / "model.safetensors"
    taken = rng.choice((folder / "config.json", weights, folder, good.profile))
    match rng.randrange(12):
        case 0 | 1:
            return Case(["generate", PUZZLE, "--model", name, *SHORT])
        case 2:
            return Case(["generate", "--prompt-file", name, "--model", "tiny-sudoku"])
        case 3:
            argv = ["generate", PUZZLE, "--model", folder, *SHORT, "--trace", taken]
            return Case(argv)
        case 4:
            return Case(["info", name], answer=None)
        case 5:
            return Case(["convert", name, place / "out"], answer=None)
        case 6:
            out = rng.choice(
                ("/", "/dev/null", "/proc", "/sys/x", b"\xff", "\n", "", taken, folder)
            )
            return Case(["convert", folder, out, "--quantize", "8bit"], answer=None)
        case 7:
            return Case(["replay", name], answer=None)
        case 8:
            return Case(["replay", good.trace, rng.choice(("--svg", "--html")), taken], answer="")
        case 9:
            return Case(["profile", "compare", name, good.profile], answer=None)
        case 10:
            save = b"/save " + os.fsencode(rng.choice((name, taken)))
            return Case(["chat", "--model", folder, *SHORT], answer=None, stdin=save + b"\n")
    odd = place / os.fsdecode(rng.choice((b"\xff\xfe", b"a\nb", b" ", "é".encode("latin-1"))))
    return Case(["generate", PUZZLE, "--model", copied(good.plain, odd), *SHORT])


def bad_prompt(rng: random.Random, place: Path, good: Good) -> Case:
    """Prompts, templates and lines of a chat that are no puzzle, or nearly one."""
    content = odd_bytes(rng, PUZZLE.encode())
    if rng.random() < 0.5:
        content = os.fsencode(rng.choice(TEXTS))
    model = ["--model", "tiny-sudoku", *SHORT]
    match rng.randrange(6):
        case 0:
            file = place / "prompt.txt"
            file.write_bytes(content)
            return Case(["generate", "--prompt-file", file, *model], answer=None)
        case 1:
            return Case(["generate", *rng.choice(([], ["-"])), *model], answer=None, stdin=content)
        case 2:
            return Case(["fill", "-", *model[:-2]], answer=None, stdin=content)
        case 3:
            return Case(["chat", *model], answer=None, stdin=content)
        case 4:
            line = rng.choice(("/seed ", "/system ", "/save ", "/think ", "/", "/load ", "/help "))
            return Case(["chat", *model], answer=None, stdin=line.encode() + content + b"\n")
    text = content.replace(b"\0", b"")
    return Case(["generate", text, *rng.choice(([], ["--raw"])), *model], answer=None)


def bad_value(rng: random.Random, place: Path, good: Good) -> Case:
    """A checkpoint in which one file holds one odd value and nothing else."""
    folder = copied(rng.choice((good.plain, good.packed)), place / "model")
    file = folder / rng.choice(
        ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
    )
    file.write_bytes(written(rng, rng.choice(VALUES)))
    return on_folder(rng, folder, place)


PICTURES = Path(__file__).parents[1] / "assets" / "data" / "pictures"
BUDGETS = ("0", "-1", "70", "71", "99", "280", "1120", "1121", "1e3", "", "x")


def bad_image(rng: random.Random, place: Path, good: Good) -> Case:
    """Images and animations that are damaged, of another kind, or given in odd ways.

    A picture of a puzzle may be damaged and still be read, as this puzzle or another one.
    """
    whole = rng.choice(sorted(PICTURES.glob("*.*g")))
    name, content = odd_image(rng, whole.read_bytes())
    file = place / rng.choice((name, name, "picture.png", "picture", "a b.heic", "film.gif"))
    file.write_bytes(content)
    model = ["--model", "tiny-sudoku", *SHORT]
    option = rng.choice(("--image", "--image", "--image", "--video"))
    match rng.randrange(8):
        case 0:
            return Case(["generate", "--image", "-", *model], answer=None, stdin=content)
        case 1:
            line = f"/{option[2:]} '{file}'\n\n{PUZZLE}\n"
            return Case(["chat", *model], answer=None, stdin=line.encode())
        case 2:
            budget = ["--image-tokens", rng.choice(BUDGETS)]
            return Case(["generate", "--image", file, *budget, *model], answer=None)
        case 3:
            return Case(["generate", option, rng.choice(PLACES), *model], answer=None)
        case 4:
            more = rng.choice(([PUZZLE], [option, file], ["--trace", file], ["--raw"], ["--json"]))
            return Case(["generate", option, file, *more, *model], answer=None)
        case 5:
            return Case(["fill", PUZZLE, option, file, *model[:-2]], answer=None)
    return Case(["generate", option, file, *model], answer=None)


SCHEMAS = (
    {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}},
    {"type": "array", "items": {"enum": ["a", 1, None]}, "minItems": 1, "maxItems": 3},
    {"type": "object", "properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"const": 1}}},
    {"type": "string", "pattern": "^[a-z]{2,5}$"},
    {"anyOf": [{"type": "number", "minimum": 0, "maximum": 9}, {"format": "date"}, True]},
)
KEYWORDS = (
    ("uniqueItems", True), ("$ref", "https://example.com/x"), ("$ref", "#"), ("not", {}),
    ("maxLength", 200), ("maxItems", 40), ("minItems", 41), ("enum", []), ("enum", "a"),
    ("type", "text"), ("type", []), ("type", 3), ("format", "hostname"), ("minimum", "1"),
    ("pattern", "("), ("required", ["gone"]), ("properties", []), ("oneOf", [{}, {}]),
    ("additionalProperties", 3), ("allOf", []), ("prefixItems", {}), ("", 0), ("$defs", 1),
)  # fmt: skip
PATTERNS = (
    "(?=a)b", "(", ")", "a{3,1}", "[", "[z-a]", "*", "a**", r"\b", r"(a)\1", r"\p{L}", "", "é",
    "a" * 9000, "(a{99}){99}", "((((a?){9}){9}){9}){9}", r"[^\s\S]", ".", "(a|b)+", r"\d{4}", "\n",
    "$^",
)  # fmt: skip
TOOL = {"name": "timer", "parameters": {"type": "object", "properties": {"n": SCHEMAS[1]}}}
CHOICES = (
    "é", "", ",", "a,", "a,a", "yes,no", r"\,", "🤖,a", "a\nb", "x" * 3000, ",".join("ab" * 400),
)  # fmt: skip


def bad_form(rng: random.Random, place: Path, good: Good) -> Case:
    """Schemas, tools, patterns, choices and holes that are odd, or that do not go together."""
    file = place / "form.json"
    tools = rng.random() < 0.3
    value = {**rng.choice(SCHEMAS), **dict(rng.sample(KEYWORDS, rng.choice((0, 1, 1, 2))))}
    if tools:
        value = {**TOOL, rng.choice(("parameters", "name", "function")): value}
    file.write_bytes(json.dumps(rng.choice((value, [value]) if tools else (value,))).encode())
    if rng.random() < 0.5:
        odd_file(rng, file, odd_json)
    option: list[Argument] = ["--tools" if tools else "--schema", file]
    if tools:
        option += ["--tool-choice", rng.choice(("required", "required", "timer", "nope", "auto"))]
    model = ["--model", "tiny-chat", "--seed", "1", "--steps", "3", "--max-tokens", "120"]
    mode = rng.choice(([], [], ["--mode", "ar"], ["--raw"], ["--stop", "x"], ["--max-tokens", "3"]))
    match rng.randrange(8):
        case 0:
            pattern = rng.choice(PATTERNS)
            return Case(["generate", "Hi", "--pattern", pattern, *model, *mode], answer=None)
        case 1:
            choices = rng.choice(CHOICES)
            return Case(["generate", "Hi", "--choices", choices, *model, *mode], answer=None)
        case 2:
            both = [*option, *rng.choice((["--choices", "a"], ["--pattern", "a"], ["--strict"]))]
            return Case(["generate", "Hi", *both, *model], answer=None)
        case 3:
            name = rng.choice(PLACES)
            return Case(["generate", "Hi", option[0], name, *model], answer=None)
        case 4:
            given = file.read_bytes() if file.is_file() else b""
            return Case(["generate", "Hi", option[0], "-", *model], answer=None, stdin=given)
        case 5:
            line = f"/{str(option[0])[2:]} {file}\nHi\n"
            return Case(["chat", *model], answer=None, stdin=line.encode())
        case 6:
            hole = f"A [[{rng.choice(('x:', ':', 'x', '9:'))}{rng.choice(PATTERNS)}]] b"
            argv = ["fill", hole, "--prompt", "Fill in the text.", *model[:-2]]
            return Case(argv, answer=None)
    return Case(["generate", "Hi", *option, *model, *mode], answer=None)


QUESTIONS = {
    "urgent": {"type": "noul", "instructions": "Now?", "criteria": {"true": "it is down"}},
    "team": {"type": "choice", "instructions": ["Who?"], "criteria": {"a": None, "b": {"c": 1}}},
    "tone": {"type": "score", "criteria": ["calm", "angry"], "depends_on": ["urgent"]},
    "next": {"type": "noul", "instructions": "?", "ask_if": {"team": ["a"]}, "alone": True},
}
REQUEST = {
    "model": "jev-latest", "state": {"text": "It is down."}, "questions": QUESTIONS,
    "instructions": "Be strict.", "samples": 1, "steps": 1, "think": 0, "seed": 1, "orders": 1,
    "layout": "own", "ask": ["urgent", "team"],
}  # fmt: skip
CALIBRATION = {
    "version": 1, "model": "tiny-sudoku", "revision": None, "quantization": None, "samples": 1,
    "layout": "joint", "steps": 1, "think": 0, "rows": {"noul": 60},
    "temperatures": {"noul": 2.0, "choice": {"a": 3.0, "b": -0.5}},
    "ece": {"all": {"before": 0.2, "after": 0.1}}, "brier": {"all": {"before": 0.6, "after": 0.5}},
}  # fmt: skip
WORDS = (
    "urgent=Now?", "urgent", "=", "=x", "a=", "a=,", "a=b,b", "a=x:", "a=:", "a=x,y", "a=b=c,d",
    "a=" + ",".join("abcdefghijkl"), "\n=x,y", "é=x,y", "a=\x1b[31m,y", " =x,y",
)  # fmt: skip


def bad_decision(rng: random.Random, place: Path, good: Good) -> Case:
    """Requests, questions, states and calibrations that are odd, or do not go together."""
    file = place / "given.json"
    decide: list[Argument] = ["decide", "--model", "tiny-sudoku", "--samples", "1"]
    asked: list[Argument] = ["--noul", "urgent=Now?"]
    match rng.randrange(8):
        case 0 | 1:
            file.write_text(json.dumps(REQUEST))
            odd_file(rng, file, odd_json)
            return Case([*decide, "-q", file], answer=None)
        case 2:
            file.write_text(json.dumps(QUESTIONS))
            odd_file(rng, file, odd_json)
            return Case([*decide, "It is down.", "-q", file], answer=None)
        case 3:
            option = rng.choice(("--noul", "--choice", "--score"))
            return Case([*decide, "It is down.", option, rng.choice(WORDS)], answer=None)
        case 4:
            name = rng.choice(("--samples", "--steps", "--think", "--seed", "--orders", "--sure"))
            return Case([*decide, "x", *asked, name, rng.choice(NUMBERS)], answer=None)
        case 5:
            content = odd_lines(rng, b'{"a": 1}\n{"b": [2]}\n')
            content = b"\n".join(content.split(b"\n")[:4])
            return Case([*decide, "--lines", "-", *asked], answer=None, several=True, stdin=content)
        case 6:
            option = rng.choice(("-q", "--lines", "--state-file", "--calibration"))
            return Case([*decide, *asked, option, rng.choice(PLACES)], answer=None, several=True)
    file.write_text(json.dumps(CALIBRATION))
    odd_file(rng, file, odd_json)
    return Case([*decide, "x", *asked, "--calibration", file], answer=None)


Kind = Callable[[random.Random, Path, Good], Case]
KINDS: Mapping[str, tuple[Kind, int]] = {
    "config": (bad_config, 900),
    "generation_config": (bad_generation_config, 400),
    "shard": (bad_shard, 600),
    "index": (bad_index, 300),
    "adapter": (bad_adapter, 200),
    "template": (bad_template, 350),
    "tokenizer": (bad_tokenizer, 400),
    "trace": (bad_trace, 500),
    "profile": (bad_profile, 300),
    "conversation": (bad_conversation, 200),
    "own_file": (bad_own_file, 100),
    "option": (bad_option, 450),
    "name": (bad_name, 300),
    "prompt": (bad_prompt, 150),
    "value": (bad_value, 50),
    "image": (bad_image, 400),
    "form": (bad_form, 400),
    "decision": (bad_decision, 200),
}
"""Kinds of bad input and how many of each are made: 6,200 in all."""


def made(kind: str, number: int, place: Path, good: Good) -> Case:
    """The case of a kind and number; the same at every run."""
    return KINDS[kind][0](random.Random(f"{kind} {number}"), place, good)
