"""A checkpoint's chat template: its source in the folder, and its rendering.

Templates come from the Hub, so they are untrusted code and run in a sandbox with limits. The
environment is that of transformers 5.23 `chat_template_utils.py` (block trimming, loop controls,
`raise_exception`, `strftime_now`, a `tojson` that leaves HTML characters alone), without
transformers, whose import takes most of a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..checkpoint.files import is_there, read_optional, read_text
from ..errors import CheckpointError, PromptError, one_line, shown

if TYPE_CHECKING:
    import jinja2


def find_template(folder: Path, tokenizer_config: Mapping[str, object]) -> str | None:
    """The chat template's source, or None where the checkpoint has none.

    chat_template.jinja goes before chat_template.json, and that before tokenizer_config.json.
    """
    if is_there(jinja_path := folder / "chat_template.jinja"):
        return read_text(jinja_path)
    processor = read_optional(folder / "chat_template.json")
    configs = {"chat_template.json": processor, "tokenizer_config.json": tokenizer_config}
    for name, config in configs.items():
        if (entry := config.get("chat_template")) is not None:
            return _default_source(folder / name, entry)
    return None


def _default_source(path: Path, entry: object) -> str:
    """The template to use from a `chat_template` entry: a text, or a list of {name, template}."""
    if isinstance(entry, str):
        return entry
    sources = {
        item.get("name"): item.get("template")
        for item in (entry if isinstance(entry, list) else [])
        if isinstance(item, dict)
    }
    source = sources.get("default", next(iter(sources.values())) if len(sources) == 1 else None)
    if isinstance(source, str):
        return source
    got = f"templates named {sorted(map(str, sources))}" if sources else type(entry).__name__
    raise CheckpointError(
        f"{path}: chat_template is {one_line(got)}, expected a text or a list with one named "
        "'default'; put the template into chat_template.jinja."
    )


def render(
    source: str, variables: Mapping[str, object], folder: Path, instead: str = "use --raw"
) -> str:
    """The template's text for these variables; instead: what an error says of doing without one.

    A template that is no Jinja is the checkpoint's fault; one that raises refuses the messages.
    """
    from .sandbox import TooMuchError, metered

    try:
        template = _compile(source)
    except Exception as error:  # besides TemplateSyntaxError, what nesting makes Python raise
        line = f" line {error.lineno}" if hasattr(error, "lineno") else ""
        reason = shown(one_line(getattr(error, "message", error)), 200)
        raise CheckpointError(
            f"{folder}: chat template{line}: {reason}, "
            f"expected Jinja; download the template again, or {instead}."
        ) from error
    try:
        with metered():
            return template.render(variables)
    except TooMuchError as error:
        raise CheckpointError(
            f"{folder}: the chat template takes {error}, expected what a prompt needs; put another "
            f"into chat_template.jinja, or {instead}."
        ) from None
    except Exception as error:  # foreign code: besides TemplateError, whatever an expression raises
        reason = shown(one_line(error) or type(error).__name__, 300)
        raise PromptError(
            f"the chat template refuses these messages: {reason.removesuffix('.')}; "
            f"change them, or {instead}."
        ) from error


@lru_cache(maxsize=4)
def _compile(source: str) -> jinja2.Template:
    return _environment().from_string(source)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """The sandbox with what chat templates expect to find in it."""
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import Node
    from jinja2.parser import Parser

    from .sandbox import Sandbox

    class Generation(Extension):
        """`{% generation %}` marks an answer for training; here it is just its content."""

        def __init__(self, environment: jinja2.Environment) -> None:
            super().__init__(environment)
            self.tags = {"generation"}

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.add_filter("tojson", _tojson)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    return environment


def _raise_exception(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: Jinja's own filter writes `<` as an escape, which the model never saw."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
