"""The page of a cell: what is coloured, what is plain, and that no text becomes markup."""

import numpy as np

from mlx_diffgemma.generation.certainty import CERTAINTIES, DARK, LIGHT
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.notebook.page import Shown, canvas_runs, finished_runs, html
from mlx_diffgemma.text.pieces import Parts

PARTS = Parts(("Hi", " <b>", "?", "hm", "<eos>", "zz"), "aaatcb")


def frame(*entropies: float) -> Frame:
    accepted = np.array([nats < 1 for nats in entropies])
    tokens = np.arange(len(entropies), dtype=np.int32)
    return Frame(0, 3, tokens, np.array(entropies, np.float32), accepted)


def test_a_canvas_is_coloured_by_certainty_and_bold_where_accepted() -> None:
    runs = canvas_runs(frame(0.0, 0.4, 5.0, 0.4, 0.0, 0.0), PARTS)
    faint = ("<eos>zz", "f")  # behind the answer's end nothing counts
    assert runs == [("Hi", "c0 a"), (" <b>", "c2 a"), ("?", "c4"), ("hm", "c2 a t"), faint]


def test_equal_neighbours_are_one_run() -> None:
    assert canvas_runs(frame(0, 0), Parts(("a", "b"), "aa")) == [("ab", "c0 a")]


def test_finished_text_has_no_control_tokens() -> None:
    assert finished_runs(PARTS) == [("Hi <b>?", ""), ("hm", "t")]


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
