"""What is drawn of frames: runs and their classes, and what a step changed."""

from dataclasses import replace

import numpy as np
import pytest

from mlx_diffgemma.conversation.scene import Changes, drawn, finished
from mlx_diffgemma.generation.certainty import CERTAINTIES
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.text.pieces import Parts

PARTS = Parts(("Hi", " <b>", "?", "hm", "<eos>", "zz"), "aaatcb")


def frame(*entropies: float, tokens: tuple[int, ...] = ()) -> Frame:
    """Accepted is what has less than a nat."""
    accepted = np.array([nats < 1 for nats in entropies])
    ids = np.array(tokens or range(len(entropies)), np.int32)
    return Frame(0, 3, ids, np.array(entropies, np.float32), accepted)


def test_a_canvas_is_coloured_by_certainty_and_bold_where_accepted() -> None:
    runs = drawn(frame(0.0, 0.4, 5.0, 0.4, 0.0, 0.0), PARTS).runs()
    faint = ("·zz", "f")  # behind the answer's end nothing counts
    assert runs == [("Hi", "c0 a"), (" <b>", "c2 a"), ("?", "c4"), ("hm", "c2 a t"), faint]


def test_equal_neighbours_are_one_run() -> None:
    assert drawn(frame(0, 0), Parts(("a", "b"), "aa")).runs() == [("ab", "c0 a")]


def test_the_bytes_of_a_character_show_nothing_but_it() -> None:
    parts = Parts(("", "é", "!"), "aaa")
    assert drawn(frame(9, 0, 0), parts).runs() == [("é!", "c0 a")]


def test_finished_text_has_no_control_tokens() -> None:
    assert finished(PARTS) == [("Hi <b>?", ""), ("hm", "t")]


@pytest.mark.parametrize("level", range(len(CERTAINTIES)))
def test_a_level_ends_below_its_edge(level: int) -> None:
    edge = CERTAINTIES[level].below
    most = 12.5 if edge == float("inf") else np.nextafter(np.float32(edge), np.float32(0))
    assert drawn(frame(most), Parts(("a",), "a")).levels.tolist() == [level]


def test_what_changed_is_underlined() -> None:
    changes, parts = Changes(), Parts(("a", "b"), "aa")
    seen = []
    for step in (
        frame(0, 0),
        frame(0, 0, tokens=(0, 7)),
        frame(0, 0, tokens=(0, 7)),
        replace(frame(0, 0, tokens=(0, 7)), canvas=1),
    ):
        changes.take(step)
        seen.append(drawn(step, parts, changes.changed).runs())
    new, still = [("ab", "c0 a u")], [("ab", "c0 a")]
    assert seen == [new, [("a", "c0 a"), ("b", "c0 a u")], still, new]


def test_behind_a_commit_all_is_new() -> None:
    changes = Changes()
    changes.take(frame(0, 0))
    changes.take(replace(frame(0), committed=True))
    assert changes == Changes()
    changes.take(frame(0, 0))
    assert changes.changed is not None
    assert changes.changed.all()


def test_what_is_written_is_neither_accepted_nor_changed() -> None:
    """No token comes again, and a segment of another length is compared with none."""
    changes = Changes()
    for step in (frame(0), frame(0, 0.1)):
        written = replace(step, mode="ar")
        changes.take(written)
    assert drawn(written, Parts(("a", "b"), "aa"), changes.changed).runs() == [
        ("a", "c0"),
        ("b", "c1"),
    ]
