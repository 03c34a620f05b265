"""Which heads, widths and experts are a rank's: the table of the 26B model, and what is refused."""

from dataclasses import replace

import pytest

from mlx_diffgemma.checkpoint.config import LayerConfig, TextConfig
from mlx_diffgemma.checkpoint.keep import INPUTS, OUTPUTS, Keep
from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.errors import ShareError
from mlx_diffgemma.model import slices
from mlx_diffgemma.model.slices import Heads, kept, own_experts, own_heads, own_width
from mlx_diffgemma.share.part import WHOLE, Part
from mlx_diffgemma.share.share import Share

GROUPS = QuantizationConfig("affine", 4, 64)
SMALL = QuantizationConfig("mxfp4", 4, 32)
SLIDING = LayerConfig(True, 256, 8, 1e4, 1.0)
FULL = LayerConfig(False, 512, 2, 1e6, 0.25)
TEXT = TextConfig(262_144, 2816, 2112, 704, 16, 128, 8, 1e-6, 1024, 30.0, 262_144, (SLIDING, FULL))


def parts(ranks: int) -> list[Part]:
    return [Part(Share(rank, ranks), "tensor") for rank in range(ranks)]


def heads(layer: LayerConfig, ranks: int) -> list[tuple[int, tuple[int, ...]]]:
    found = [own_heads(TEXT, layer, part) for part in parts(ranks)]
    assert [own.queries[0] for own in found[1:]] == [own.queries[1] for own in found[:-1]]
    return [(own.count, own.kv) for own in found]


def test_heads_go_by_groups_where_there_are_enough() -> None:
    assert heads(SLIDING, 2) == [(8, (0, 1, 2, 3)), (8, (4, 5, 6, 7))]
    assert heads(SLIDING, 3) == [(6, (0, 1, 2)), (6, (3, 4, 5)), (4, (6, 7))]
    assert heads(SLIDING, 4) == [(4, (n, n + 1)) for n in (0, 2, 4, 6)]
    assert heads(FULL, 2) == [(8, (0,)), (8, (1,))]


def test_a_head_of_keys_is_held_by_all_that_have_its_queries() -> None:
    assert heads(FULL, 3) == [(6, (0,)), (5, (0, 0, 1, 1, 1)), (5, (1,))]
    assert heads(FULL, 4) == [(4, (0,)), (4, (0,)), (4, (1,)), (4, (1,))]


def test_one_process_has_all() -> None:
    assert own_heads(TEXT, FULL, WHOLE) == Heads((0, 16), (0, 1))
    assert own_heads(TEXT, FULL, Part(Share(1, 2), "rows")) == Heads((0, 16), (0, 1))
    assert own_heads(TEXT, FULL, WHOLE).of(FULL) is FULL
    assert own_width(2112, GROUPS, WHOLE, "x") == (0, 2112)
    both = own_experts(TEXT, GROUPS, WHOLE)
    assert (both.numbers, both.width, both.held(128)) == ((0, 128), (0, 704), None)


def test_a_layers_config_has_its_own_heads() -> None:
    straddling = own_heads(TEXT, FULL, parts(3)[1])
    assert straddling.of(FULL) == replace(FULL, num_key_value_heads=5)
    assert straddling.query_rows(512) == ((6 * 512, 11 * 512),)
    assert kept(OUTPUTS, 1024, straddling.kv_rows(512)) == Keep(
        OUTPUTS, ((0, 512), (0, 1024), (512, 1024), (512, 1024))
    )


def lengths(spans: list[tuple[int, int]]) -> list[int]:
    assert [first for first, _ in spans[1:]] == [end for _, end in spans[:-1]]
    return [end - first for first, end in spans]


@pytest.mark.parametrize("packing", [GROUPS, None])
def test_widths_are_cut_in_groups(packing: QuantizationConfig | None) -> None:
    table = {2: [1088, 1024], 3: [704, 704, 704], 4: [576, 512, 512, 512]}
    of_experts = {2: [384, 320], 3: [256, 256, 192], 4: [192, 192, 192, 128]}
    for ranks, each in table.items():
        assert lengths([own_width(2112, packing, part, "x") for part in parts(ranks)]) == each
        by_width = [own_experts(TEXT, packing, part, "width") for part in parts(ranks)]
        assert lengths([own.width for own in by_width]) == of_experts[ranks]
        assert {own.held(128) for own in by_width} == {None}


def test_smaller_groups_divide_evenly() -> None:
    assert lengths([own_width(2112, SMALL, part, "x") for part in parts(2)]) == [1056, 1056]


def test_widths_that_are_not_packed_are_cut_as_finely_as_is_needed() -> None:
    assert lengths([own_width(24, None, part, "x") for part in parts(3)]) == [8, 8, 8]
    assert lengths([own_width(24, None, part, "x") for part in parts(4)]) == [8, 8, 4, 4]


def test_experts_by_number() -> None:
    for ranks, each in {2: [64, 64], 3: [43, 43, 42], 4: [32] * 4}.items():
        found = [own_experts(TEXT, GROUPS, part, "number") for part in parts(ranks)]
        assert lengths([own.numbers for own in found]) == each
        assert {own.width for own in found} == {(0, 704)}
        assert [own.held(128) for own in found] == [range(*own.numbers) for own in found]


def test_a_width_of_too_few_groups_is_cut_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "experts_cut", lambda: "width")
    narrow = replace(TEXT, moe_intermediate_size=64)
    assert own_experts(narrow, GROUPS, parts(2)[0]).width == (0, 32)
    assert own_experts(narrow, GROUPS, parts(4)[0]).numbers == (0, 32)


def test_gate_and_up_are_cut_alike() -> None:
    own = own_experts(TEXT, GROUPS, parts(2)[1], "width")
    assert kept(OUTPUTS, 1408, own.gate_up_rows(704)) == Keep(OUTPUTS, ((384, 704), (1088, 1408)))


def test_what_is_kept_whole_needs_no_cut() -> None:
    assert kept(INPUTS, 8, [(0, 4), (4, 8)]) is None
    assert kept(INPUTS, 8, [(0, 4), (4, 6)]) == Keep(INPUTS, ((0, 6),))


def test_more_macs_than_parts_are_refused() -> None:
    last = parts(17)[16]
    with pytest.raises(ShareError, match=r"17 Macs .* expected 16 at most: the model has 16 att"):
        own_heads(TEXT, FULL, last)
    with pytest.raises(
        ShareError, match=r"a dense MLP has 1 packed group of 32 in .* 32; name fewer"
    ):
        own_width(32, GROUPS, parts(2)[0], "a dense MLP")
    with pytest.raises(ShareError, match="expected 4 at most: the model has 4 experts"):
        own_experts(replace(TEXT, num_experts=4), GROUPS, parts(5)[0], "number")
