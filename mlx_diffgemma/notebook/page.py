"""A generation after a step as HTML: finished text, the canvas coloured by certainty, a line below.

It brings its own ground, light or dark, as the notebook says: Jupyter, VS Code and Colab each in
their own way, others by the browser's. Where styles are taken out, the text is still there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ..conversation.scene import Run
from ..generation.certainty import CERTAINTIES, DARK, LIGHT, Ground

DARK_NOTEBOOKS = (
    '[data-jp-theme-light="false"] .mlxdg',
    ".vscode-dark .mlxdg",
    'html[theme="dark"] .mlxdg',
)
LIGHT_NOTEBOOKS = (
    '[data-jp-theme-light="true"] .mlxdg',
    ".vscode-light .mlxdg",
    'html[theme="light"] .mlxdg',
)

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Shown:
    """What a cell shows: runs of text, a line of facts, and whether a canvas is among them."""

    runs: Sequence[Run]
    facts: str
    settling: bool = False


def html(shown: Shown) -> str:
    """The whole output of a cell; every text in it is escaped."""
    text = "".join(f'<span class="{kind}">{_escaped(run)}</span>' for run, kind in shown.runs)
    legend = _LEGEND if shown.settling else ""
    return (
        f"<style>{_STYLE}</style>"
        f'<div class="mlxdg"><pre>{text}</pre><p>{_escaped(shown.facts)}{legend}</p></div>'
    )


def _escaped(text: str) -> str:
    """A text as HTML shows it, with what is no character as a mark."""
    return escape("".join(c if c.isprintable() or c in "\n\t" else UNKNOWN for c in text))


def _variables(ground: Ground, colours: Iterator[str]) -> str:
    levels = "".join(f"--c{number}:{colour};" for number, colour in enumerate(colours))
    return f"--back:{ground.back};--text:{ground.text};--faint:{ground.faint};{levels}"


def _style() -> str:
    light = _variables(LIGHT, (level.on_light for level in CERTAINTIES))
    dark = _variables(DARK, (level.on_dark for level in CERTAINTIES))
    levels = "".join(f".mlxdg .c{n}{{color:var(--c{n})}}" for n in range(len(CERTAINTIES)))
    return (
        f".mlxdg{{{light}background:var(--back);color:var(--text);"
        "border:1px solid var(--faint);border-radius:6px;padding:.5em .75em}"
        f"@media(prefers-color-scheme:dark){{.mlxdg{{{dark}}}}}"
        f"{','.join(LIGHT_NOTEBOOKS)}{{{light}}}{','.join(DARK_NOTEBOOKS)}{{{dark}}}"
        ".mlxdg pre{background:none;color:inherit;margin:0;padding:0;white-space:pre-wrap;"
        "overflow-wrap:anywhere;max-height:30em;overflow:auto}"
        ".mlxdg p{margin:.5em 0 0;font-size:85%}.mlxdg p,.mlxdg .f{color:var(--faint)}"
        f".mlxdg .a{{font-weight:bold}}.mlxdg .t{{font-style:italic}}{levels}"
    )


def _legend() -> str:
    labels = (
        f'<span class="c{number}">{escape(level.label)}</span>'
        for number, level in enumerate(CERTAINTIES)
    )
    return f"<br>entropy in nats: {' '.join(labels)}, <b>accepted</b>"


_STYLE, _LEGEND = _style(), _legend()
