"""Facts that are lost, cut short, doubled into lines, or in each other's place are noticed."""

import pytest
from facts import assert_says, raises

from mlx_diffgemma.errors import CheckpointError, DiffGemmaError

MESSAGE = "model.norm: shape [5,010], expected [16]; convert again with `mlx-diffgemma convert`."


def test_what_is_said() -> None:
    assert_says(MESSAGE, "model.norm", "[5,010]", 16, "mlx-diffgemma convert")
    assert_says(MESSAGE, "shape ... 5,010 ... 16 ... convert again")


@pytest.mark.parametrize(
    "facts",
    ["norm", "model", "5", "010", "[1", "[16] ... [5,010]", "diffgemma", "shapes", "again ... 16"],
)
def test_what_is_not(facts: str) -> None:
    with pytest.raises(AssertionError, match="not in this place"):
        assert_says(MESSAGE, facts)


@pytest.mark.parametrize("message", ["a\nb", "", "a " * 200])
def test_a_message_is_one_line_of_some_length(message: str) -> None:
    with pytest.raises(AssertionError):
        assert_says(message)


def test_the_type_of_an_error_counts() -> None:
    with raises(CheckpointError, "said"):
        raise CheckpointError("said")
    with pytest.raises(AssertionError), raises(DiffGemmaError, "said"):
        raise CheckpointError("said")
