"""The page of a cell: its colours, and that no text becomes markup."""

from mlx_diffgemma.generation.certainty import CERTAINTIES, DARK, LIGHT
from mlx_diffgemma.notebook.page import Shown, html


def test_text_is_text_whatever_it_holds() -> None:
    page = html(Shown([("<script>&\x1b[31m\ud800\n", "c0")], "Reply('<i>')"))
    assert "&lt;script&gt;&amp;\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}\n" in page
    assert "Reply(&#x27;&lt;i&gt;&#x27;)" in page
    page.encode()


def test_the_legend_stands_below_a_canvas_alone() -> None:
    labels = [level.label.replace("<", "&lt;") for level in CERTAINTIES]
    settling, done = (html(Shown([], "", settling)) for settling in (True, False))
    assert all(f">{label}</span>" in settling for label in labels)
    assert "nats" not in done


def test_a_notebooks_own_scheme_stands_above_the_browsers() -> None:
    """JupyterLab may be light where the system is dark, and the other way round."""
    page = html(Shown([], ""))
    by_browser = page.index("@media(prefers-color-scheme:dark)")
    assert by_browser < page.index('[data-jp-theme-light="true"]')
    light = page[page.index('[data-jp-theme-light="true"]') :].split("}", 1)[0]
    dark = page[page.index('[data-jp-theme-light="false"]') :].split("}", 1)[0]
    assert LIGHT.back in light
    assert DARK.back in dark
    for level in CERTAINTIES:
        assert level.on_light in light
        assert level.on_dark in dark
