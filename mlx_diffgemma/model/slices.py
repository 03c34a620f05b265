"""The parts of a network's tensors that are one rank's: heads, inner widths and experts.

Arithmetic from sizes alone. Widths are cut in whole units: the groups of numbers that a packing
gives one scale each, or as many numbers where nothing is packed. Smaller ones are taken where there
are fewer groups than ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..checkpoint.config import LayerConfig, TextConfig
from ..checkpoint.keep import EXPERTS, INPUTS, OUTPUTS, Keep
from ..checkpoint.layout import DECODER
from ..checkpoint.quantization import QuantizationConfig, finer
from ..errors import ShareError, counted
from ..kernels import dispatch
from ..machine import device
from ..share.part import Part
from ..share.share import Span
from .bits import PackingOf

UNITS = [64, 32, 16, 8, 4, 2, 1]  # of widths that are not packed
LESS = "name fewer Macs, or share by layers"

ExpertsCut = Literal["number", "width"]


@dataclass(frozen=True)
class Heads:
    """A rank's query heads, from first to end, and the key-value heads that they read, in order.

    kv: each for as many neighbouring queries. Where some of them have more queries here than
    others, one for each query, so that a head stands there several times.
    """

    queries: Span
    kv: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of query heads."""
        return self.queries[1] - self.queries[0]

    def of(self, layer: LayerConfig) -> LayerConfig:
        """The layer's config with the number of this rank's key-value heads."""
        if len(self.kv) == layer.num_key_value_heads:
            return layer
        return replace(layer, num_key_value_heads=len(self.kv))

    def query_rows(self, head_dim: int) -> tuple[Span, ...]:
        """The outputs of q_proj, and inputs of o_proj, that are this rank's."""
        first, end = self.queries
        return ((first * head_dim, end * head_dim),)

    def kv_rows(self, head_dim: int) -> tuple[Span, ...]:
        """The outputs of k_proj and v_proj that are this rank's, in order."""
        return tuple((head * head_dim, (head + 1) * head_dim) for head in self.kv)


@dataclass(frozen=True)
class ExpertsPart:
    """A rank's experts, from first to end, and its part of each one's inner width."""

    numbers: Span
    width: Span

    def held(self, total: int) -> range | None:
        """The numbers of the experts that are held, None for all."""
        return None if self.numbers == (0, total) else range(*self.numbers)

    def gate_up_rows(self, whole: int) -> tuple[Span, ...]:
        """The outputs of a gate over an up projection, each `whole` wide."""
        first, end = self.width
        return (first, end), (whole + first, whole + end)


def kept(axis: int, total: int, spans: Sequence[Span]) -> Keep | None:
    """The part of an axis that runs make up, joined where they meet; None for all of it."""
    runs: list[Span] = []
    for first, end in spans:
        if runs and runs[-1][1] == first:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((first, end))
    return None if runs == [(0, total)] else Keep(axis, tuple(runs))


def network_keeps(text: TextConfig, packing: PackingOf, part: Part) -> dict[str, Keep]:
    """What this rank keeps of the matrices of the network that are cut, by module.

    ShareError where one cannot be cut for so many.
    """
    keeps = conditioning_keeps(text, packing, part)
    for number in part.layers(len(text.layers)):
        keeps |= layer_keeps(text, number, packing, part)
    return keeps


def conditioning_keeps(text: TextConfig, packing: PackingOf, part: Part) -> dict[str, Keep]:
    """The same of self-conditioning."""
    at = f"{DECODER}.self_conditioning"
    return _mlp_keeps(text.intermediate_size, packing, part, at, "self-conditioning")


def layer_keeps(text: TextConfig, number: int, packing: PackingOf, part: Part) -> dict[str, Keep]:
    """The same of layer `number`; of a router all is kept."""
    at, layer = f"{DECODER}.layers.{number}", text.layers[number]
    return {
        **_attention_keeps(text, layer, part, f"{at}.self_attn"),
        **_mlp_keeps(text.intermediate_size, packing, part, f"{at}.mlp", "a dense MLP"),
        **_experts_keeps(text, packing, part, f"{at}.experts"),
    }


def _attention_keeps(text: TextConfig, layer: LayerConfig, part: Part, at: str) -> dict[str, Keep]:
    heads, D = own_heads(text, layer, part), layer.head_dim
    width, kv_width = text.num_attention_heads * D, layer.num_key_value_heads * D
    own, own_kv = heads.query_rows(D), kept(OUTPUTS, kv_width, heads.kv_rows(D))
    found = {
        "q_proj": kept(OUTPUTS, width, own),
        "k_proj": own_kv,
        "v_proj": own_kv if layer.sliding else None,
        "o_proj": kept(INPUTS, width, own),
    }
    return _named(at, found)


def _mlp_keeps(inner: int, packing: PackingOf, part: Part, at: str, what: str) -> dict[str, Keep]:
    own = (own_width(inner, packing(f"{at}.down_proj"), part, what),)
    rows, columns = kept(OUTPUTS, inner, own), kept(INPUTS, inner, own)
    return _named(at, {"gate_proj": rows, "up_proj": rows, "down_proj": columns})


def _experts_keeps(text: TextConfig, packing: PackingOf, part: Part, at: str) -> dict[str, Keep]:
    """Whole experts, or a part of each."""
    num, inner = text.num_experts, text.moe_intermediate_size
    own = own_experts(text, packing(f"{at}.down_proj"), part)
    rows = columns = kept(EXPERTS, num, (own.numbers,))
    if rows is None:
        rows = kept(OUTPUTS, 2 * inner, own.gate_up_rows(inner))
        columns = kept(INPUTS, inner, (own.width,))
    return _named(at, {"gate_up_proj": rows, "down_proj": columns})


def _named(at: str, keeps: Mapping[str, Keep | None]) -> dict[str, Keep]:
    return {f"{at}.{name}": keep for name, keep in keeps.items() if keep}


def own_heads(text: TextConfig, layer: LayerConfig, part: Part) -> Heads:
    """The heads of a layer that are this rank's.

    Whole groups of queries where each rank can have one. Otherwise queries, and a key-value head is
    held by all ranks that have some of its queries. ShareError for fewer heads than ranks.
    """
    total, kv_heads = text.num_attention_heads, layer.num_key_value_heads
    group = total // kv_heads
    whole = not part.in_tensors or kv_heads >= part.share.size
    has = f"the model has {counted(total, 'attention head')}"
    first, end = _own(part, total, group if whole else 1, has)
    each = [query // group for query in range(first, end)]
    once = tuple(sorted(set(each)))
    alike = len({each.count(head) for head in once}) == 1
    return Heads((first, end), once if alike else tuple(each))


def own_width(width: int, packing: QuantizationConfig | None, part: Part, what: str) -> Span:
    """This rank's part of an inner width; packing: of the matrix that has it as its inputs.

    ShareError for fewer groups than ranks; what: whose width it is.
    """
    unit = _unit(width, packing, part)
    groups = counted(-(-width // unit), "packed group")
    return _own(part, width, unit, f"{what} has {groups} of {unit} in its width of {width:,}")


def own_experts(
    text: TextConfig, packing: QuantizationConfig | None, part: Part, cut: ExpertsCut | None = None
) -> ExpertsPart:
    """This rank's experts, or its part of each; packing: of their down projection.

    cut: which of the two, None for what suits this machine.
    """
    numbers, width = (0, text.num_experts), (0, text.moe_intermediate_size)
    if not part.in_tensors:
        return ExpertsPart(numbers, width)
    units = -(-width[1] // _unit(width[1], packing, part))
    if (cut or experts_cut()) == "width" and units >= part.share.size:
        return ExpertsPart(numbers, own_width(width[1], packing, part, "an expert"))
    has = f"the model has {counted(text.num_experts, 'expert')}"
    return ExpertsPart(_own(part, text.num_experts, 1, has), width)


def experts_cut() -> ExpertsCut:
    """How experts are cut on this machine, where their width has groups enough.

    The kernels take whole experts, and leave others out on the GPU. Operations of MLX could not
    without the host, which would have to know how many rows each has.
    """
    kernels = device.has_metal() and dispatch.mode() is not dispatch.Mode.OFF
    return "number" if kernels else "width"


def _unit(width: int, packing: QuantizationConfig | None, part: Part) -> int:
    """The numbers of a width that stay together: as many as leave each rank some."""
    units = UNITS if packing is None else finer(packing)
    return next((unit for unit in units if -(-width // unit) >= part.share.size), units[-1])


def _own(part: Part, total: int, unit: int, reason: str) -> Span:
    """This rank's span of `total` in whole units; ShareError where a rank would have none."""
    if not part.in_tensors:
        return 0, total
    if (units := -(-total // unit)) < part.share.size:
        raise ShareError(
            f"{part.share.size} Macs share by tensor, expected {units} at most: {reason}; {LESS}."
        )
    return part.share.span(total, unit)
