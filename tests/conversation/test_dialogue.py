"""Messages in full, as a client sends them, on their way to a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small import IMAGE_IDS, picture, write_seeing

from mlx_diffgemma.conversation.dialogue import Dialogue, asked_in_full
from mlx_diffgemma.conversation.front import open_front

PARTS = (
    "{%- macro parts(c) -%}{%- for p in c -%}"
    "{{ '<|image|>' if p.type == 'image' else p.text }}{%- endfor -%}{%- endmacro -%}"
    "{%- for m in messages -%}{{ m.role }}:"
)
EVERYWHERE = PARTS + "{{ m.content if m.content is string else parts(m.content) }}|{%- endfor -%}"
OF_USERS = PARTS + (
    "{{ m.content if m.content is string else parts(m.content) if m.role == 'user' }}|"
    "{%- endfor -%}"
)
CALLS = [
    {"id": key, "type": "function", "function": {"name": name, "arguments": "{}"}}
    for key, name in (("a", "f"), ("b", "g"))
]
IMAGE = {"type": "image"}


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (EVERYWHERE, "user:hi|assistant:|tool:#|tool:x|"),
        (OF_USERS, "user:hi|assistant:|tool:|tool:x|user:From the result of f:#|"),
    ],
)
def test_an_image_of_a_result_is_seen_with_every_template(
    tmp_path: Path, template: str, written: str
) -> None:
    """One that writes it in the tool's turn has it there."""
    front = open_front(write_seeing(tmp_path, template=template), "seeing")
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "b", "content": "x"},
        {"role": "tool", "tool_call_id": "a", "content": [IMAGE]},
    ]
    _, prompt, _ = asked_in_full(front, Dialogue(messages, images=[picture(1)]))
    begin, _, end = IMAGE_IDS
    first, last = prompt.ids.index(begin), prompt.ids.index(end)
    around = prompt.ids[:first], prompt.ids[last + 1 :]
    assert len(prompt.images) == 1
    assert "#".join(front.tokenizer.decode(ids, special=True) for ids in around) == written
