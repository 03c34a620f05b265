"""What becomes of an answer: stop texts, thoughts, tool calls and raw text, on a told model."""

import json
from typing import Any, cast

import pytest
from facts import assert_says, raises
from fake_model import CertainModel
from small import TURN, spell, talker, write_tokenizer

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.conversation.turn import Turn
from mlx_diffgemma.errors import CheckpointError, SettingsError
from mlx_diffgemma.text.chat import Message
from mlx_diffgemma.text.tokenizer import Tokenizer


def finished(session: Session, prompt: str = "Hi", **options: Any) -> Turn:
    turn = session.turn(prompt, **options)
    for _ in turn:
        pass
    return turn


def stopping(*texts: str, max_tokens: int = 60) -> dg.Settings:
    return dg.Settings(max_tokens=max_tokens, stop=texts)


def passes(session: Session) -> int:
    """How often the decoder has run."""
    return len(cast(CertainModel, session.model).asked("decode"))


# --- stop texts; the canvas holds six tokens

STOPS = [
    # what is said, the stop texts, the text, and how many tokens it took
    (["abcENDdef"], ["END"], "abc", 6),
    (["abcdENDdef"], ["END"], "abcd", 7),  # the stop text lies across two canvases
    (["abcdefghijEND"], ["END"], "abcdefghij", 13),
    (["ENDabc"], ["END"], "", 3),
    (["abc def"], [" "], "abc", 4),
    (["ab\ncd"], ["\n"], "ab", 3),
    (["xa.bb;c"], [";", "."], "xa", 3),  # the earliest, not the first in the list
    (["xa.bb;c"], [".", ";"], "xa", 3),
    (["one two one two"], ["two", "one"], "", 3),
    (["abcabd"], ["abd"], "abc", 6),  # a beginning that came to nothing
    (["xabcdef"], ["abcdef", "cd"], "xab", 5),  # the one that is whole first
    (["a", "hello", "b"], ["ell"], "ah", 2),  # inside one token
    (["hello"], ["ell"], "h", 1),  # inside the very first
    (["hello"], ["hello"], "", 1),
    (["hello", " the", " sky"], ["o th"], "hell", 2),  # from inside one token into another
    (["hello", " the", " sky", "!"], ["the s"], "hello ", 3),
    (["hello", " the", " sky", "!"], ["y!"], "hello the sk", 4),
    (["hello"], ["lo", "el"], "h", 1),  # one token completes both
]


@pytest.mark.parametrize(("said", "stops", "text", "count"), STOPS)
def test_an_answer_ends_before_the_first_stop_text(
    tokenizer: Tokenizer, said: list[str], stops: list[str], text: str, count: int
) -> None:
    """The text is cut before it; the ids go on to the token that completes it."""
    script = spell(tokenizer, *said)
    reply = finished(talker(tokenizer, script), settings=stopping(*stops)).reply()
    assert reply.text == text
    assert list(reply.token_ids) == script[:count]
    assert reply.finish_reason == "stop"
    assert reply.canvases == -(-count // 6)


def test_nothing_is_denoised_behind_a_stop_text(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, spell(tokenizer, "abcENDdefghijkl"))
    turn = finished(session, settings=stopping("END"))
    assert turn.reply().steps == (2,)
    assert passes(session) == 2
    session = talker(tokenizer, spell(tokenizer, "abcENDdefghijkl"))
    frames = list(session.stream("Hi", settings=stopping("END")))
    assert [frame.committed for frame in frames] == [False, False, True]
    assert frames[-1].finish_reason == "stop"
    assert frames[-1].text == "abcEND"


def test_a_stop_text_that_does_not_come_changes_nothing(tokenizer: Tokenizer) -> None:
    script = spell(tokenizer, "abc", "<end>")
    reply = finished(talker(tokenizer, script), settings=stopping("END", "z")).reply()
    assert (reply.text, reply.finish_reason) == ("abc", "stop")
    assert list(reply.token_ids) == script


def test_a_stop_text_behind_the_stop_id_or_max_tokens_does_not_count(tokenizer: Tokenizer) -> None:
    script = spell(tokenizer, "ab", "<end>", "END")
    assert finished(talker(tokenizer, script), settings=stopping("END")).reply().text == "ab"
    session = talker(tokenizer, spell(tokenizer, "abEND"))
    reply = finished(session, settings=stopping("END", max_tokens=4)).reply()
    assert (reply.text, reply.finish_reason) == ("abEN", "length")


def test_a_stop_text_in_front_of_the_stop_id_leaves_it_out(tokenizer: Tokenizer) -> None:
    script = spell(tokenizer, "aEND", "<end>")
    reply = finished(talker(tokenizer, script), settings=stopping("END")).reply()
    assert list(reply.token_ids) == script[:4]
    assert reply.text == "a"


def test_a_stop_text_inside_a_thought_does_not_count(tokenizer: Tokenizer) -> None:
    script = spell(
        tokenizer, "<|channel>", "thought", "\nEND", "<channel|>", "abEND", "cd", "<end>"
    )
    reply = finished(talker(tokenizer, script), settings=stopping("END")).reply()
    assert (reply.thinking, reply.text) == ("END", "ab")
    assert list(reply.token_ids) == script[:12]


def test_the_next_question_follows_the_text_before_the_stop(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, spell(tokenizer, "abcENDdef"), spell(tokenizer, "ok", "<end>"))
    finished(session, settings=stopping("END"))
    assert session.history == [Message("user", "Hi"), Message("assistant", "abc")]
    assert finished(session, "Go on").reply().text == "ok"


# --- thoughts

THOUGHT = ("<|channel>", "thought", "\nhm, ", "hello", "<channel|>")


def test_a_thought_is_kept_apart_and_out_of_the_conversation(tokenizer: Tokenizer) -> None:
    session = talker(
        tokenizer,
        spell(tokenizer, *THOUGHT, "yes", "<end>"),
        spell(tokenizer, "no", "<end>"),
    )
    first = finished(session)
    reply = first.reply()
    assert (reply.text, reply.thinking) == ("yes", "hm, hello")
    assert session.history == [Message("user", "Hi"), Message("assistant", "yes")]
    second = session.turn("Really?")
    rendered = tokenizer.decode(second.prompt_ids, special=True)
    assert rendered == (
        "<bos><|turn>user\nHi<turn|>\n<|turn>model\nyes<turn|>\n"
        "<|turn>user\nReally?<turn|>\n<|turn>model\n"
    )
    for _ in second:
        pass
    assert second.reply().text == "no"
    encoded = cast(CertainModel, session.model).asked("encode")
    canvases = -(-len(reply.token_ids) // 6)
    assert encoded[canvases] == second.prompt_ids[len(first.prompt_ids) :]


def test_an_unfinished_thought_is_never_the_answer(tokenizer: Tokenizer) -> None:
    script = spell(tokenizer, "<|channel>", "thought", "\nhm hm hm")
    session = talker(tokenizer, script)
    reply = finished(session, settings=dg.Settings(max_tokens=9)).reply()
    assert (reply.text, reply.finish_reason) == ("", "length")
    assert reply.thinking == "hm hm"
    assert session.history[1] == Message("assistant", "")


def test_an_empty_thought_is_none(tokenizer: Tokenizer) -> None:
    script = spell(tokenizer, "<|channel>", "thought", "\n", "<channel|>", "yes", "<end>")
    reply = finished(talker(tokenizer, script)).reply()
    assert (reply.text, reply.thinking) == ("yes", None)


def test_thinking_is_asked_for_with_think_only(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, [])
    marker = tokenizer.id_of("<|think|>")
    assert marker in session.turn("Hi", think=True).prompt_ids
    assert marker not in session.turn("Hi").prompt_ids


# --- tool calls, empty answers, raw text, templates


def test_a_tool_call_leaves_the_text_and_can_be_written_as_json(tokenizer: Tokenizer) -> None:
    quote = '<|"|>'
    script = spell(tokenizer, "<|tool_call>", "call:sky{of:", quote, "earth", quote, ",n:3}")
    script += spell(tokenizer, "<tool_call|>", "<end>")
    reply = finished(talker(tokenizer, script)).reply()
    assert reply.text == ""
    expected = [{"name": "sky", "arguments": {"of": "earth", "n": 3}}]
    assert json.loads(json.dumps(reply.to_json()))["tool_calls"] == expected


def test_a_stop_id_at_once_is_an_empty_answer(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, spell(tokenizer, "<end>"), spell(tokenizer, "ok", "<end>"))
    reply = finished(session).reply()
    assert (reply.text, reply.finish_reason, reply.generated_tokens) == ("", "stop", 1)
    assert (reply.canvases, passes(session)) == (1, 2)
    assert finished(session, "So?").reply().text == "ok"


def test_raw_text_keeps_its_markers_and_has_no_thoughts(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, spell(tokenizer, *THOUGHT, "yes", "<end>"))
    turn = finished(session, "<bos><|turn>user\nHi<|turn>model\n", raw=True)
    reply = turn.reply()
    assert turn.prompt_ids == tokenizer.encode("<bos><|turn>user\nHi<|turn>model\n")
    assert reply.text == "<|channel>thought\nhm, hello<channel|>yes"
    assert (reply.thinking, reply.tool_calls, reply.finish_reason) == (None, (), "stop")
    assert session.history == []
    assert turn.problem() is None


def test_stop_texts_count_in_raw_text_too(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, spell(tokenizer, *THOUGHT, "yes", "<end>"))
    prompt = "<|turn>user\nHi<|turn>model\n"
    reply = finished(session, prompt, raw=True, settings=stopping("<channel|>")).reply()
    assert reply.text == "<|channel>thought\nhm, hello"


def test_without_a_template_only_raw_prompts_can_be_asked(
    tmp_path: Any, tokenizer: Tokenizer
) -> None:
    bare = write_tokenizer(tmp_path, template=None)
    session = talker(bare, spell(bare, "ok", "<end>"))
    with pytest.raises(CheckpointError, match="has no chat template: use --raw"):
        session.ask("Hi")
    assert session.ask("<|turn>user\nHi<|turn>model\n", raw=True).text == "ok"


def test_frames_carry_their_text_as_they_come(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, spell(tokenizer, "hello", " the", " sky", "!", "<end>"))
    frames = list(session.stream("Hi"))
    assert [frame.text for frame in frames] == ["hello the sky!_"] * 2 + ["hello the sky!"]


def test_a_reply_can_be_had_at_any_time(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, spell(tokenizer, "abcdefghi", "<end>"))
    turn = session.turn("Hi")
    assert turn.reply().text == ""
    texts = [turn.reply().text for _ in turn]
    assert texts == ["", "", "abcdef", "abcdef", "abcdef", "abcdefghi"]


def test_markers_a_user_types_are_text_but_in_a_raw_prompt(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, [])
    plain, typed = (session.turn(text).prompt_ids for text in ("ab", "a<|turn>b"))
    assert typed.count(TURN) == plain.count(TURN) == 2
    assert session.turn("a<|turn>b", raw=True).prompt_ids.count(TURN) == 1


# --- what was asked for and does not reach the model

BLIND = "{{ bos_token }}<|turn>user\n{{ messages[-1].content }}<turn|>\n<|turn>model\n"


def test_a_turn_notes_what_its_template_ignores(tmp_path: Any, tokenizer: Tokenizer) -> None:
    blind = talker(write_tokenizer(tmp_path, template=BLIND), [])
    assert blind.turn("Hi").notes == ()
    thought, untold = blind.turn("Hi", think=True), blind.turn("Hi", think=True, system="Be brief.")
    assert_says(*thought.notes, "the chat template ignores think")
    assert_says(untold.notes[0], "the chat template ignores the system text")
    assert untold.notes[1:] == thought.notes
    assert untold.prompt_ids == thought.prompt_ids == blind.turn("Hi").prompt_ids
    assert len(blind.turn("Hi").notes) == 1  # the system text stays, and so does the note
    assert len(blind.fill_turn("a[[1]]").notes) == 1
    assert talker(tokenizer, []).turn("Hi", think=True, system="Be brief.").notes == ()


def test_raw_refuses_what_it_would_drop(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, spell(tokenizer, "ok", "<end>"))
    for options, named in (
        ({"system": "Be brief."}, "system"),
        ({"think": True}, "think"),
        ({"system": "Be brief.", "think": True}, "system and think"),
    ):
        with raises(SettingsError, named, "raw ... leave out raw"):
            session.ask("abc", raw=True, **options)
    with raises(SettingsError, "system cannot go with raw"):
        session.fill("a[[1]]", raw=True, system="Be brief.")
    assert (session.system, session.history) == (None, [])


def test_the_sessions_own_system_text_allows_raw(tokenizer: Tokenizer) -> None:
    """It is that of other questions; only what comes with this one counts."""
    session = talker(tokenizer, spell(tokenizer, "ok", "<end>"))
    session.system = "Be brief."
    assert session.turn("abc", raw=True).prompt_ids == [ord(c) for c in "abc"]
    assert session.fill_turn("a[[1]]", raw=True, prompt="abc").prompt_ids == [ord(c) for c in "abc"]
    assert session.system == "Be brief."
