"""llm's messages become ours, or a line that says which of them cannot."""

from typing import Any

import llm
from facts import raises
from llm.parts import ReasoningPart, ToolCallPart

from mlx_diffgemma.errors import ImageError, PromptError
from mlx_diffgemma.plugin.chain import Chain, Said, Seen, read_chain
from mlx_diffgemma.plugin.model import DiffGemma


def chain_of(*messages: Any, **given: Any) -> Chain:
    return read_chain(llm.Prompt(None, DiffGemma(), messages=messages, **given))


def test_a_conversation_is_read_without_its_thoughts() -> None:
    read = chain_of(
        llm.system("Short."),
        llm.user("One?"),
        llm.assistant(ReasoningPart(text="Counting."), "One."),
        llm.user("Two?"),
    )
    earlier = (Said("user", "One?"), Said("assistant", "One."))
    assert read == Chain("Short.", earlier, Said("user", "Two?"))


def test_a_system_text_of_this_question_replaces_the_conversations() -> None:
    """llm hands `llm -c -s TEXT` over beside the messages, which keep the first."""
    messages = [llm.system("Short."), llm.user("One?"), llm.assistant("One."), llm.user("Two?")]
    assert chain_of(*messages, system="Long.").system == "Long."


def test_a_question_without_messages_is_empty_and_has_no_system_text() -> None:
    assert chain_of() == Chain(None, (), Said("user", ""))


def test_an_answer_without_a_question_behind_it_is_followed_by_an_empty_one() -> None:
    assert chain_of(llm.user("One?"), llm.assistant("One.")).question == Said("user", "")


def test_what_another_model_has_called_is_refused_by_its_place() -> None:
    call = ToolCallPart(name="clock", arguments={})
    with raises(PromptError, "message 2 ... ToolCallPart, expected a text"):
        chain_of(llm.user("Time?"), llm.assistant(call), llm.user("And?"))
    with raises(PromptError, "message 1 ... the tool's, expected"):
        chain_of(llm.tool_message("12:00"))


def test_pictures_and_a_video_are_told_apart() -> None:
    picture = llm.Attachment(type="image/png", path="a.png")
    bytes_of_one = llm.Attachment(type="image/jpeg", content=b"\xff\xd8\xff")
    film = llm.Attachment(type="video/mp4", path="b.mp4")
    said = Said("user", "", (picture, film, bytes_of_one))
    assert said.seen(70) == Seen(("a.png", b"\xff\xd8\xff"), "b.mp4", 70)
    assert Said("user", "").seen(70) == Seen()  # a number that would concern no image
    with raises(ImageError, "2 videos, expected one"):
        Said("user", "", (film, film)).seen(None)


def test_a_url_that_cannot_be_fetched_is_a_line() -> None:
    lost = llm.Attachment(type="image/png", url="http://127.0.0.1:9/a.png")
    with raises(ImageError, "http://127.0.0.1:9/a.png cannot be fetched"):
        Said("user", "", (lost,)).seen(None)
