"""What cannot be answered is refused while it is prepared, without weights, in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import edit_json
from loaded_engines import CHAT, assistant, chat, engine_of, events_of, text_of

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.form import Wanted
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.serve.asked import Asked, Completion, Infill
from mlx_diffgemma.serve.engine.loaded import LoadedEngine
from mlx_diffgemma.serve.refusal import Refusal, refusal_of
from mlx_diffgemma.text.holes import read_template

SYSTEM = {"role": "system", "content": "Be brief."}
TOOL = {"name": "add", "parameters": {"type": "object", "properties": {}}}
HOLE = read_template("It is [[9]].")
IMAGE = {"role": "user", "content": [{"type": "image"}]}

REFUSED: dict[str, tuple[Asked, str, str | None, str]] = {
    "too long": (chat("x" * 3000), "context", None, "3,009 tokens.*canvas of 64.*2,048"),
    "too long in mode ar": (chat("x" * 3000, mode="ar"), "context", None, "3,009 tokens.*1 token"),
    "too long as it is": (Completion(prompt="x" * 3000), "context", None, "3,001 tokens"),
    "a template too long": (
        Infill(template=read_template("[[2000]]" * 3)),
        "context",
        None,
        "6,0.. need.*lower max_tokens",
    ),
    "no question": (chat(SYSTEM), "invalid", None, "no message but the system's"),
    "nothing": (chat(), "invalid", None, "no message"),
    "no template": (Infill(), "invalid", None, "no template"),
    "an unknown role": (chat({"role": "robot", "content": ""}), "invalid", None, "robot"),
    "an image for the blind": (chat(IMAGE, images=(b"x",)), "invalid", None, "sees no images"),
    "a wrong schema": (
        chat("a", wanted=Wanted(schema={"type": "nope"})),
        "invalid",
        None,
        "'nope'",
    ),
    "a keyword that cannot be held": (
        chat("a", wanted=Wanted(schema={"type": "string", "format": "unheard"})),
        "invalid",
        None,
        "format",
    ),
    "a form too long": (
        chat("a", max_tokens=8, wanted=Wanted(choices=["a long choice"])),
        "invalid",
        "max_tokens",
        "takes 1. tokens, max_tokens is 8",
    ),
    "a stop text in a form": (
        chat("a", stop=("x",), wanted=Wanted(pattern="a+")),
        "invalid",
        "stop",
        "stop cannot go with",
    ),
    "a tool and a schema that leave too few tokens": (
        chat("a", wanted=Wanted(schema={"type": "object"}, tools=[TOOL]), max_tokens=2),
        "invalid",
        "max_tokens",
        "3 tokens, max_tokens is 2",
    ),
    "an unknown tool": (
        chat("a", wanted=Wanted(tools=[TOOL], tool_choice="mul")),
        "invalid",
        None,
        "'mul'",
    ),
    "a template with a limit": (
        Infill(template=HOLE, settings=Settings(max_tokens=9)),
        "invalid",
        "max_tokens",
        "a template says where it ends",
    ),
    "a template token by token": (
        Infill(template=HOLE, settings=Settings(mode="ar")),
        "invalid",
        "diffusion.mode",
        "always denoised",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_answered_is_refused_without_weights(case: str) -> None:
    asked, kind, param, said = REFUSED[case]
    engine = engine_of(CHAT)
    with pytest.raises(Refusal, match=said) as refused:
        engine.prepare(asked)
    assert (refused.value.kind, refused.value.param) == (kind, param)
    assert engine.counters.loads == 0
    for private in ("\n", str(CHAT), "--"):
        assert private not in str(refused.value)


def test_a_count_is_refused_for_the_same_reasons_but_length(talking: LoadedEngine) -> None:
    assert talking.count(chat("x" * 3000)) == 3009
    with pytest.raises(Refusal, match="sees no images"):
        talking.count(chat(IMAGE, images=(b"x",)))
    with pytest.raises(Refusal, match="no message"):
        talking.count(chat())


def test_a_checkpoint_without_a_chat_template_goes_on_with_texts_alone(
    random_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(random_folder, tmp_path / "plain")
    edit_json(folder / "tokenizer_config.json", chat_template=None)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    engine = engine_of(folder)
    with pytest.raises(Refusal, match=r"^plain has no chat template: ask for a completion") as no:
        engine.prepare(chat("hello"))
    assert no.value.kind == "invalid"
    assert text_of(events_of(engine, Completion(prompt="hello", settings=Settings(max_tokens=8))))


def test_what_a_template_ignores_is_said(tmp_path: Path, random_folder: Path) -> None:
    """tiny-sudoku's template, which this folder has, knows no thoughts."""
    engine = engine_of(random_folder)
    notes = engine.prepare(chat("hello", think=True)).question.checked.asked.notes
    assert notes == ("the chat template ignores think; the model is not told to think.",)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Refusal("full", "wait."), "full", "wait."),
        (dg.FitError("m needs 2 GB; try --force."), "context", "m needs 2 GB; shorten"),
        (MemoryError(), "internal", "memory"),
        (dg.NumericsError("tensor x holds NaN"), "internal", "the answer could not be made"),
        (KeyError("secret"), "internal", "the answer could not be made"),
        (dg.CheckpointError("/private/m: no tool"), "invalid", "m: no tool"),
    ],
)
def test_every_error_has_a_refusal(error: Exception, kind: str, said: str) -> None:
    refusal: Any = refusal_of(error, {"/private/m": "m"})
    assert refusal.kind == kind
    assert str(refusal).startswith(said) or said in str(refusal)
    assert "NaN" not in str(refusal)
    assert "secret" not in str(refusal)


def test_an_assistants_message_can_be_the_last(talking: LoadedEngine) -> None:
    """The template opens an answer behind it all the same."""
    assert talking.count(chat("hello", assistant("hi"))) > talking.count(chat("hello"))
