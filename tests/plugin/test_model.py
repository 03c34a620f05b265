"""`llm -m diffgemma`: answers, conversations, what is logged, and one line for what is wrong."""

import json
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import llm
import numpy as np
import pytest
from click.testing import Result
from facts import assert_says, raises
from pages import blocks
from PIL import Image
from pydantic import ValidationError
from small import spell, talker, write_tokenizer

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.default import DEFAULT_MODEL
from mlx_diffgemma.checkpoint.hub import fetch_command
from mlx_diffgemma.conversation.conversation import Conversation
from mlx_diffgemma.plugin import model as plugin
from mlx_diffgemma.plugin.model import DiffGemma, Refusal

ROOT = Path(__file__).parents[2]
PUZZLE = ROOT / "docs" / "examples" / "sudoku.png"
Run = Callable[..., Result]
SUM = "What is 17 + 25?"


def logged(run: Run) -> dict[str, Any]:
    """The last response in llm's log."""
    return dict(json.loads(run("logs", "-n", "1", "--json").stdout)[0])


# --- the plugin


def test_the_package_names_the_plugin_to_llm() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (named,) = project["entry-points"]["llm"].values()
    assert import_module(named) is plugin


def test_what_it_cannot_do_is_not_claimed(diffgemma: DiffGemma) -> None:
    assert (diffgemma.supports_schema, diffgemma.supports_tools) == (True, False)
    with raises(ValueError, "does not support tools"):
        diffgemma.prompt("Hi", tools=[llm.Tool("timer")]).text()


def test_every_option_is_described(run: Run) -> None:
    shown = run("models", "--options", "-m", "diffgemma").stdout
    for name, field in plugin.Options.model_fields.items():
        assert f"    {name}: " in shown
        assert field.description


# --- answers


def test_an_answer_is_printed_and_logged_with_its_seed_and_tokens(run: Run) -> None:
    asked = run("-m", "diffgemma", SUM, "-o", "seed", "7", "-o", "steps", "9")
    assert (asked.exit_code, asked.stdout) == (0, "17 + 25 = 42.\n")
    response = logged(run)
    assert (response["input_tokens"], response["output_tokens"]) == (25, 14)
    assert response["resolved_model"] == "tiny-chat"
    stats = response["response_json"]
    assert (stats["seed"], stats["finish_reason"]) == (7, "stop")
    assert stats["sampler"]["max_denoising_steps"] == 9
    assert not {"text", "token_ids"} & stats.keys()  # llm has the text itself


def test_a_seed_nobody_chose_is_logged_and_gives_the_same_again(diffgemma: DiffGemma) -> None:
    first = diffgemma.prompt(SUM, mode="ar", max_tokens=5)
    first.text()
    seed = (first.response_json or {})["seed"]
    again = diffgemma.prompt(SUM, mode="ar", max_tokens=5, seed=seed)
    assert again.text() == first.text()


def test_json_by_a_schema_is_printed_and_its_strain_logged(run: Run) -> None:
    given = ("--schema", "name, age int", "-o", "seed", "7")
    asked = run("-m", "diffgemma", "Make JSON: name Max, age 41.", *given)
    assert (asked.exit_code, asked.stdout) == (0, '{\n  "name": "Max",\n  "age": 41\n}\n')
    told = logged(run)["response_json"]
    assert (told["constraint"]["kind"], told["notes"]) == ("schema", [])


def test_json_by_a_schema_comes_as_a_whole(diffgemma: DiffGemma) -> None:
    """A fence that a model puts around it is known at the end of the text alone."""
    asked = diffgemma.prompt("How much is 17 + 25?", schema={"enum": [41, 42]}, mode="ar", seed=7)
    with pytest.warns(UserWarning, match="the strain is"):
        pieces = list(asked)
    assert pieces in (["41"], ["42"])
    assert "the strain is" in (asked.response_json or {})["notes"][0]


def test_a_schema_that_cannot_be_enforced_is_one_line(run: Run) -> None:
    schema = json.dumps({"type": "array", "items": {"type": "string"}, "uniqueItems": True})
    asked = run("-m", "diffgemma", "Hi", "--schema", schema)
    assert (asked.exit_code, asked.stdout) == (1, "")
    assert_says(asked.stderr.rstrip("\n"), "Error: ... uniqueItems")


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diffgemma: DiffGemma
) -> Callable[..., dg.Session]:
    """Makes the model say the scripts, a question each, in canvases of six tokens."""

    def say(*scripts: list[str]) -> dg.Session:
        tokenizer = write_tokenizer(tmp_path)
        session = talker(tokenizer, *(spell(tokenizer, *script) for script in scripts))
        monkeypatch.setattr(plugin, "_load", lambda name: session)
        return session

    return say


def test_text_comes_a_canvas_at_a_time(
    diffgemma: DiffGemma, told: Callable[..., dg.Session]
) -> None:
    told([*"One, two, three.", "<end>"])
    assert list(diffgemma.prompt("Count.")) == ["One, t", "wo, th", "ree."]


def test_text_comes_a_token_at_a_time_in_mode_ar(
    diffgemma: DiffGemma, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", str(random_folder))
    pieces = list(diffgemma.prompt("abc", mode="ar", max_tokens=12, seed=3))
    assert len(pieces) > 9
    assert "".join(pieces) == plugin.KEPT.session().history[-1].content


def test_a_thought_is_reasoning_and_no_text(
    diffgemma: DiffGemma, told: Callable[..., dg.Session]
) -> None:
    told(["<|channel>", "thought", "\n", *"Hm.", "<channel|>", *"Yes.", "<end>"])
    response = diffgemma.prompt("Sure?", think=True)
    events = [(event.type, event.chunk) for event in response.stream_events()]
    assert "".join(chunk for kind, chunk in events if kind == "reasoning") == "Hm."
    assert response.text() == "Yes."
    assert [kind for kind, _ in events].index("text") > 0  # the thought stands before it


def test_what_was_asked_and_not_done_is_said_and_logged(
    diffgemma: DiffGemma, told: Callable[..., dg.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    told([*"Hi.", "<end>"])
    note = "the chat template ignores the system text"
    monkeypatch.setattr(dg.Turn, "notes", (note,))
    response = diffgemma.prompt("Hi", system="Short.")
    with pytest.warns(UserWarning, match=note):
        response.text()
    assert (response.response_json or {})["notes"] == [note]


def test_ctrl_c_keeps_what_came(
    diffgemma: DiffGemma, told: Callable[..., dg.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    told([*"One, two, three.", "<end>"])
    interrupt_behind(2, "One, t", monkeypatch)
    response = diffgemma.prompt("Count.")
    assert list(response) == ["One, t"]
    assert (response.response_json or {})["finish_reason"] == "interrupted"


def test_ctrl_c_before_anything_came_goes_on_to_llm(
    diffgemma: DiffGemma, told: Callable[..., dg.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    told([*"One, two, three.", "<end>"])
    interrupt_behind(0, "", monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        diffgemma.prompt("Count.").text()


def interrupt_behind(canvas: int, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the first step behind so many characters' canvases."""
    step = Conversation.step

    def interrupted(self: Conversation, turn: Any, advance: Callable[[], Any]) -> Any:
        if len(turn.reply().text) >= len(kept) and (canvas == 0 or turn.kept):
            raise KeyboardInterrupt
        return step(self, turn, advance)

    monkeypatch.setattr(Conversation, "step", interrupted)


# --- conversations


def test_a_further_question_encodes_only_what_is_new(
    diffgemma: DiffGemma, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llm sends all of it each time; what the session's cache holds is not computed again."""
    conversation, session = diffgemma.conversation(), plugin.KEPT.session()
    encoded, encode = list[int](), session.model.encode

    def spy(tokens: Any, *more: Any, **options: Any) -> Any:
        encoded.extend(tokens)
        return encode(tokens, *more, **options)

    monkeypatch.setattr(session.model, "encode", spy)
    conversation.prompt(SUM, seed=7).text()
    asked = [*encoded]
    encoded.clear()
    second = conversation.prompt("What is the opposite of early?", seed=7)
    assert second.text() == "The opposite of early is late."
    assert session.prefix is not None
    assert [*asked, *encoded] == session.prefix.tokens
    assert second.input_tokens == len(asked) + len(encoded)
    assert second.token_details == {"cached_tokens": len(asked)}


@pytest.mark.slow
def test_a_conversation_goes_on_in_another_process(run: Run) -> None:
    """`llm -c` has the log alone, and says what the conversation itself would say."""
    more = "What is the opposite of early?"
    run("-m", "diffgemma", SUM, "-o", "seed", "7")
    plugin.KEPT.loaded = None
    continued = run("-c", more, "-o", "seed", "8")
    session = dg.load("tiny-chat")
    session.ask(SUM, seed=7)
    reply = session.ask(more, seed=8)
    assert continued.stdout == f"{reply.text}\n"
    assert logged(run)["input_tokens"] == reply.prompt_tokens


def test_two_conversations_do_not_mix(
    diffgemma: DiffGemma, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", str(random_folder))
    one, other = diffgemma.conversation(), diffgemma.conversation()
    one.prompt("ab", system="cd", seed=7, max_tokens=8).text()
    alone = other.prompt("ab", seed=7, max_tokens=8)
    fresh = dg.load(random_folder).ask("ab", seed=7, max_tokens=8)
    assert (alone.text(), alone.input_tokens) == (fresh.text, fresh.prompt_tokens)


def test_one_session_is_kept_until_another_model_is_named(
    random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llm makes a model each time that it is asked for one: weights must not be read again."""
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", str(random_folder))
    one, other = llm.get_model("diffgemma"), llm.get_model("diffgemma")
    assert one is not other
    one.prompt("ab", max_tokens=8).text()
    first = plugin.KEPT.session()
    other.prompt("ab", max_tokens=8).text()
    assert plugin.KEPT.session() is first
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", "tiny-sudoku")
    assert plugin.KEPT.session().name == "tiny-sudoku"


# --- attachments


@pytest.mark.slow
def test_a_picture_of_a_puzzle_is_solved(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", "tiny-sudoku")
    solved = run("-m", "diffgemma", "", "-a", str(PUZZLE), "-o", "seed", "1")
    assert (solved.exit_code, solved.stdout[:10]) == (0, "417368295\n")
    wrong = run("-m", "diffgemma", "", "-a", str(PUZZLE), "-o", "seed", "1", "-o", "steps", "1")
    assert (wrong.exit_code, wrong.stdout) == (1, "")  # digits that are wrong are not printed
    assert_says(wrong.stderr.strip(), "not a valid solution ... another seed")


def test_a_picture_stays_in_the_conversation_and_is_encoded_once(
    diffgemma: DiffGemma, seeing_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", str(seeing_folder))
    random = np.random.default_rng(1).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(random).save(tmp_path / "a.png")
    conversation = diffgemma.conversation()
    shown = llm.Attachment(path=str(tmp_path / "a.png"))
    conversation.prompt("ab", attachments=[shown], max_tokens=8, seed=1).text()
    second = conversation.prompt("cd", max_tokens=8, seed=1)
    second.text()
    assert plugin.KEPT.session().history[0].media
    assert (second.token_details or {})["cached_tokens"] > 4  # the soft tokens among them


def test_without_pillow_no_image_is_claimed_and_the_extra_is_named(
    diffgemma: DiffGemma, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert diffgemma.attachment_types == frozenset()
    with raises(Refusal, 'Pillow ... "mlx-diffgemma[image]"'):
        diffgemma.prompt("Who?", attachments=[llm.Attachment(path=str(PUZZLE))])


def test_other_attachments_are_refused_by_llm(diffgemma: DiffGemma) -> None:
    sound = llm.Attachment(type="audio/wav", content=b"RIFF")
    with raises(ValueError, "attachments of type 'audio/wav'", most=400):
        diffgemma.prompt("Hi", attachments=[sound])


# --- what is wrong


def test_an_option_that_it_does_not_have_is_llms_own_line(run: Run) -> None:
    refused = run("-m", "diffgemma", "Hi", "-o", "bogus", "3")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert_says(" ".join(refused.stderr.split()), "Error: bogus ... not permitted")


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"steps": "0"}, "steps is 0, expected ... at least 1"),
        ({"seed": -1}, "seed is -1, expected ... from 0 to 18446744073709551615"),
        ({"temperature": 1}, "temperature is for mode ar or auto"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_loaded(
    options: dict[str, Any], facts: str, diffgemma: DiffGemma, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "_load", lambda name: pytest.fail("loaded"))
    with raises(Refusal, facts):
        diffgemma.prompt("Hi", **options).text()


@pytest.mark.parametrize("options", [{"steps": "x"}, {"mode": "fast"}, {"think": "perhaps"}])
def test_a_value_of_another_type_is_llms_to_refuse(
    options: dict[str, Any], diffgemma: DiffGemma
) -> None:
    with pytest.raises(ValidationError) as refused:
        diffgemma.prompt("Hi", **options)
    assert [error["loc"] for error in refused.value.errors()] == [tuple(options)]


def test_an_empty_prompt_is_one_line(diffgemma: DiffGemma) -> None:
    with raises(Refusal, "the prompt is empty"):
        diffgemma.prompt("").text()


def test_a_model_that_is_not_there_is_one_line_with_the_way_to_it(
    diffgemma: DiffGemma, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is downloaded: llm asks nobody."""
    monkeypatch.delenv("MLX_DIFFGEMMA_MODEL")
    with pytest.raises(Refusal) as refused:
        diffgemma.prompt("Hi").text()
    facts = f"not in the local cache; `{fetch_command(DEFAULT_MODEL)}` ... $MLX_DIFFGEMMA_MODEL"
    assert_says(refused.value, f"{facts} ... tiny-chat")
    assert "--model" not in str(refused.value)  # which is no option of llm's


def test_a_chat_ends_with_one_line_not_with_a_traceback(run: Run) -> None:
    ended = run("chat", "-m", "diffgemma", "-o", "steps", "0", input="Hi\n")
    assert ended.exit_code == 1
    assert_says(ended.stderr.strip(), "Error: steps is 0")


def test_no_memory_is_one_line(diffgemma: DiffGemma, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str) -> dg.Session:
        raise RuntimeError("[metal::malloc] Attempting to allocate 9 bytes")

    monkeypatch.setattr(plugin, "_load", full)
    with raises(Refusal, "out of memory ... max_tokens"):
        diffgemma.prompt("Hi").text()
    monkeypatch.setattr(plugin, "_load", lambda name: 1 / 0)
    with raises(ZeroDivisionError):  # a defect is no line
        diffgemma.prompt("Hi").text()


@pytest.mark.slow
def test_the_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(ROOT / "docs" / "llm.md", "python")
    exec(compile(block, "llm.md", "exec"), {})
    assert capsys.readouterr().out.startswith("17 + 25 = 42.The opposite of early is ")
