"""What counts as a puzzle, and what counts as its answer."""

import random
from itertools import pairwise

import pytest
from facts import assert_says, raises

from mlx_diffgemma.assets.sudoku import SudokuTask, parse_puzzle
from mlx_diffgemma.errors import PromptError

TASK = SudokuTask()
FORM = "type 81 cells row by row, 1-9 for a given and 0 or . for a blank."
BLANK = "." * 81


def rows(grid):
    return "\n".join(grid[start : start + 9] for start in range(0, 81, 9))


def put(grid, *cells):
    """`grid` with digits written at (row, column), both from 1."""
    cut = list(grid)
    for row, column, digit in cells:
        cut[9 * (row - 1) + column - 1] = digit
    return "".join(cut)


def breaks_no_rule(grid):
    """A second opinion, written another way: sets of (unit, digit) pairs."""
    said = [
        (kind, digit)
        for cell, digit in enumerate(grid)
        if digit not in "0."
        for r, c in [divmod(cell, 9)]
        for kind in [("r", r), ("c", c), ("b", r // 3, c // 3)]
    ]
    return len(said) == len(set(said))


def shuffled(grid, rng):
    """Another valid grid: digits renamed, rows exchanged inside a band, perhaps mirrored."""
    names = dict(zip("123456789", rng.sample("123456789", 9), strict=True))
    order = [3 * band + row for band in rng.sample(range(3), 3) for row in rng.sample(range(3), 3)]
    lines = [grid[9 * row : 9 * row + 9] for row in order]
    if rng.random() < 0.5:
        lines = ["".join(column) for column in zip(*lines, strict=True)]
    return "".join(names[digit] for line in lines for digit in line)


# ---- reading a puzzle


def test_every_puzzle_is_read_and_prepared_as_in_training(puzzles):
    assert len(puzzles) == 200
    for entry in puzzles:
        grid = entry["puzzle"].replace(".", "0")
        assert parse_puzzle(entry["puzzle"]) == grid
        assert 81 - grid.count("0") == entry["clues"]
        prepared = TASK.prepare(entry["puzzle"])
        assert prepared == rows(grid)
        assert TASK.prepare(prepared) == prepared


def test_any_mix_of_blanks_and_white_space_reads_the_same(puzzles):
    rng = random.Random(20)
    for entry in rng.sample(puzzles, 50):
        grid = entry["puzzle"].replace(".", "0")
        typed = "".join(
            rng.choice("0.") + rng.choice(["", " ", "\n"])
            if cell == "0"
            else cell + rng.choice(["", "\t", "\r\n", " \n "])
            for cell in grid
        )
        assert parse_puzzle(typed) == grid


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_an_empty_puzzle_is_refused(text):
    with pytest.raises(PromptError) as refused:
        parse_puzzle(text)
    assert str(refused.value) == f"the puzzle is empty: {FORM}"


@pytest.mark.parametrize("length", [1, 80, 82, 90, 162])
def test_a_wrong_number_of_cells_is_refused(length):
    with pytest.raises(PromptError) as refused:
        parse_puzzle("." * length)
    assert str(refused.value) == f"the puzzle has {length} of 81 cells: {FORM}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Why is the sky blue?", "'W' at line 1, character 1"),
        (rows(BLANK)[:14] + "x" + rows(BLANK)[15:], "'x' at line 2, character 5"),
        ("\n" + BLANK + "_", "'_' at line 2, character 82"),
        ("53. | .7.", "'|' at line 1, character 5"),
        ("\u0663" + BLANK[1:], "'\u0663' at line 1, character 1"),  # a digit, but not 0-9
        ("\u00b2" + BLANK[1:], "'\u00b2' at line 1, character 1"),
        ("\ufeff" + BLANK, r"'\ufeff' at line 1, character 1"),
        (BLANK + "\0", r"'\x00' at line 1, character 82"),
    ],
)
def test_a_foreign_character_is_named_with_its_place(text, said):
    with raises(PromptError, said, FORM):
        parse_puzzle(text)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([(1, 1, "5"), (1, 4, "5")], "row 1 ... 5s ... columns 1 and 4"),
        ([(9, 8, "1"), (9, 9, "1")], "row 9 ... 1s ... columns 8 and 9"),
        ([(2, 3, "7"), (8, 3, "7")], "column 3 ... 7s ... rows 2 and 8"),
        ([(4, 4, "9"), (6, 6, "9")], "box 5 ... 9s ... row 4, column 4 ... row 6, column 6"),
        ([(8, 1, "2"), (7, 3, "2")], "box 7 ... 2s ... row 7, column 3 ... row 8, column 1"),
        ([(3, 3, "4"), (3, 1, "4"), (2, 2, "4")], "row 3 ... 4s ... columns 1 and 3"),
    ],
)
def test_clashing_givens_are_refused_with_both_cells(cells, said):
    with raises(PromptError, "no solution", said):
        parse_puzzle(put(BLANK, *cells))


def test_a_puzzle_is_refused_exactly_when_its_givens_break_a_rule():
    rng = random.Random(21)
    counts = {True: 0, False: 0}
    for _ in range(500):
        places = rng.sample(range(81), rng.randint(1, 10))
        grid = put(BLANK, *((p // 9 + 1, p % 9 + 1, rng.choice("123456789")) for p in places))
        fine = breaks_no_rule(grid)
        counts[fine] += 1
        try:
            parse_puzzle(grid)
        except PromptError:
            assert not fine, grid
        else:
            assert fine, grid
    assert min(counts.values()) > 100


def test_every_error_is_one_line():
    for text in ["", "x", "\n", "1", "11" + BLANK[2:], "\u2028" + "\x85x"]:
        with pytest.raises(PromptError) as refused:
            TASK.prepare(text)
        assert len(str(refused.value).splitlines()) == 1


# ---- judging an answer


def test_every_solution_is_right(puzzles):
    for entry in puzzles:
        answer = rows(entry["solution"])
        assert TASK.problem(entry["puzzle"], answer) is None
        assert TASK.problem(TASK.prepare(entry["puzzle"]), answer + "\n") is None


def test_the_solution_of_another_puzzle_is_wrong(puzzles):
    for entry, other in pairwise(puzzles):
        said = TASK.problem(entry["puzzle"], rows(other["solution"]))
        assert said is not None
        assert said.startswith("given ")


def test_any_valid_grid_solves_a_puzzle_without_givens(puzzles):
    rng = random.Random(22)
    for entry in puzzles:
        assert TASK.problem(BLANK, rows(shuffled(entry["solution"], rng))) is None


def test_a_puzzle_with_two_solutions_accepts_both():
    one = "123456789456789123789123456231674895875912364694538217317265948542897631968341572"
    exchange = next(rectangles(one))
    puzzle = put(one, *((row, column, ".") for row, column, _ in exchange))
    other = put(one, *exchange)
    assert other != one
    assert TASK.problem(puzzle, rows(one)) is None
    assert TASK.problem(puzzle, rows(other)) is None


def rectangles(grid):
    """Four cells in two boxes that hold a b over b a: exchanged, the grid stays valid."""
    for top in range(9):
        for low in range(top + 1, 9):
            for left in range(9):
                for right in range(left + 1, 9):
                    a, b = grid[9 * top + left], grid[9 * top + right]
                    crossed = grid[9 * low + left] == b and grid[9 * low + right] == a
                    if crossed and (top // 3 == low // 3) != (left // 3 == right // 3):
                        yield [
                            (top + 1, left + 1, b),
                            (top + 1, right + 1, a),
                            (low + 1, left + 1, a),
                            (low + 1, right + 1, b),
                        ]


SOLUTION = "546831297873269145291547836628795413739416528415382679157623984382954761964178352"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "the answer ... 0 digits ... 81"),
        (rows(SOLUTION)[:-1], "the answer ... 80 digits ... 81"),
        (rows(SOLUTION) + "\n123456789", "the answer ... 90 digits ... 81"),
        (SOLUTION, "row 1 ... 81 digits ... 9"),
        (
            rows(SOLUTION).replace("\n", "", 1)[:17] + "\n" + rows(SOLUTION)[18:],
            "row 1 ... 17 digits ... 9",
        ),
        (rows(SOLUTION).replace("\n", "\n\n", 1), "row 2 ... 0 digits ... 9"),
        (rows(put(SOLUTION, (3, 5, "0"))), "'0' ... row 3, column 5 ... digit 1-9"),
        (rows(put(SOLUTION, (1, 1, "x"))), "'x' ... row 1, column 1 ... digit 1-9"),
        (rows(SOLUTION).replace("\n", " "), "' ' ... row 1, column 10 ... digit 1-9"),
        (rows(SOLUTION)[:-1] + "\u0662", "'\u0662' ... row 9, column 9 ... digit 1-9"),
        (rows(put(SOLUTION, (1, 1, "9"))), "given 5 ... row 1, column 1 ... 9"),
        (rows(put(SOLUTION, (9, 9, "1"))), "given 2 ... row 9, column 9 ... 1"),
        (rows(put(SOLUTION, (1, 2, "6"))), "row 1 ... 6s ... columns 2 and 3"),
        (rows(put(SOLUTION, (1, 2, "6"), (1, 3, "4"))), "column 2 ... 6s ... rows 1 and 9"),
    ],
)
def test_each_broken_answer_is_told_apart(answer, said, puzzles):
    assert puzzles[0]["solution"] == SOLUTION
    assert_says(TASK.problem(puzzles[0]["puzzle"], answer), said)


def test_a_broken_box_is_named():
    latin = "".join(
        "123456789"[k:] + "123456789"[:k] for k in range(9)
    )  # rows and columns are fine
    said = TASK.problem(BLANK, rows(latin))
    assert_says(said, "box 1 ... 2s ... row 1, column 2 ... row 2, column 1")


def test_one_changed_cell_is_always_noticed(puzzles):
    rng = random.Random(23)
    for entry in puzzles:
        cell, digit = rng.randrange(81), rng.choice("123456789")
        answer = put(entry["solution"], (cell // 9 + 1, cell % 9 + 1, digit))
        right = answer == entry["solution"]
        assert (TASK.problem(entry["puzzle"], rows(answer)) is None) == right
        assert (TASK.problem(BLANK, rows(answer)) is None) == right


def test_random_exchanges_are_judged_as_the_second_opinion_does(puzzles):
    rng = random.Random(24)
    for entry in puzzles:
        grid = list(shuffled(entry["solution"], rng))
        for _ in range(rng.randrange(3)):
            a, b = rng.sample(range(81), 2)
            grid[a], grid[b] = grid[b], grid[a]
        answer = "".join(grid)
        assert (TASK.problem(BLANK, rows(answer)) is None) == breaks_no_rule(answer)


def test_a_prompt_that_is_no_puzzle_is_an_error_not_a_verdict():
    with pytest.raises(PromptError):
        TASK.problem("hello", rows(SOLUTION))


@pytest.mark.parametrize("entry", range(0, 40, 8))
def test_a_puzzle_with_a_solution_is_not_called_unsolvable(puzzles, entry):
    puzzle = puzzles[entry]["puzzle"]
    assert not TASK.unsolvable(puzzle)
    solution = puzzles[entry]["solution"]
    cell = next(place for place, given in enumerate(puzzle) if given in "0.")
    for digit in set("123456789") - {solution[cell]}:  # it has one solution, with another digit
        wrong = puzzle[:cell] + digit + puzzle[cell + 1 :]
        if breaks_no_rule(wrong):
            assert TASK.unsolvable(wrong)


def test_a_search_that_takes_too_long_decides_nothing():
    assert not TASK.unsolvable(BLANK)
    slow = "." * 5 + "5.8" + "." * 4 + "6.1.43" + "." * 10 + "1.5" + "." * 8 + "1.6...3"
    slow += "." * 7 + "553" + "." * 5 + "61" + "." * 8 + "4" + "." * 9
    assert not TASK.unsolvable(slow)  # nobody has the patience to find that it is


# ---- read in a picture


def soft(grid, tenth="7"):
    """A character for each of 90 soft tokens; what stands in the tenth column does not matter."""
    return "".join(row + tenth for row in rows(grid.replace(".", "0")).split("\n"))


def test_a_reading_is_the_puzzle_of_its_cells(puzzles):
    for entry in puzzles[::20]:
        assert TASK.read(soft(entry["puzzle"])) == TASK.prepare(entry["puzzle"])
        assert TASK.read(soft(entry["puzzle"], "0"), [9, 19, 89]) == TASK.prepare(entry["puzzle"])


@pytest.mark.parametrize(
    ("tokens", "facts"),
    [
        (81, "81 soft tokens ... 90 ... Pixels"),
        (0, "0 soft tokens ... 90"),
        (100, "100 soft tokens ... 90"),
    ],
)
def test_a_picture_of_other_tokens_is_refused(tokens, facts):
    with raises(PromptError, facts):
        TASK.read("1" * tokens)


def test_eight_cells_may_be_doubtful_and_no_more(puzzles):
    characters = soft(puzzles[0]["puzzle"])
    cells = [token for token in range(90) if token % 10 != 9]
    assert TASK.read(characters, [*cells[:8], 9, 19])
    with raises(PromptError, "9 of 81 cells ... at most 8 ... crop ... type"):
        TASK.read(characters, cells[:9])


def test_fewer_givens_than_any_puzzle_has_are_no_reading():
    solution = SOLUTION[:17]
    seventeen = put(BLANK, *((n // 9 + 1, n % 9 + 1, d) for n, d in enumerate(solution)))
    assert TASK.read(soft(seventeen)) == TASK.prepare(seventeen)
    with raises(PromptError, "16 digits in 81 cells ... 17 ... crop ... type"):
        TASK.read(soft(seventeen[:16] + "." * 65))


def test_a_clash_in_a_reading_is_named_with_the_reading(puzzles):
    wrong = put(puzzles[0]["puzzle"], (3, 2, "5"), (3, 7, "5"), (1, 1, "."))
    with raises(PromptError, f"read as {wrong} ... row 3 has two 5s (columns 2 and 7) ... text"):
        TASK.read(soft(wrong))


def test_a_grid_is_drawn_with_dots_for_blanks(puzzles):
    lines = TASK.drawing(TASK.prepare(puzzles[0]["puzzle"]))
    assert len(lines) == 13
    assert lines[1] == "│ 5 · · │ · 3 · │ · 9 7 │"
    assert lines[0][0] + lines[4][0] + lines[12][0] == "┌├└"
