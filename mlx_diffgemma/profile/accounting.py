"""What a measured model had to compute and read, beside what it took: components and bounds."""

from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Any

from ..checkpoint.shards import read_headers
from .components import Components, summarise
from .measurement import Measurement
from .roofline import bound, find_chip
from .work import SELF_CONDITIONING, Work, encode_work, packed_bits, step_work, total


def measured_components(measured: Measurement) -> Components | None:
    """A step by component, where steps were repeated with fences."""
    pairs = [
        pair
        for canvas in measured.canvases
        for pair in zip(canvas.step_seconds, canvas.parts, strict=False)
    ]
    return summarise(*zip(*pairs, strict=True)) if pairs else None


class Accounting:
    """FLOPs and bytes of this model's step, prefill and commit, and what its chip makes of them.

    A step stands behind the median prefix of those measured, with their mean of dense rows. Where
    no canvas took a second one, nothing was conditioned on a first.
    """

    def __init__(self, measured: Measurement) -> None:
        model, folder = measured.session.model, Path(measured.session.info.path)
        headers, machine = read_headers(folder), measured.machine
        self.config, self.item_bytes = model.config, model.dtype.size
        self.bits = packed_bits(
            self.config, lambda module: f"{module}.scales" in headers, self.item_bytes
        )
        canvases = measured.canvases
        self.prefix = round(median(canvas.prefix for canvas in canvases))
        self.prompt = round(median(len(record.question.tokens) for record in measured.records))
        self.parts = step_work(
            self.config,
            self.prefix,
            self.bits,
            item_bytes=self.item_bytes,
            dense_rows=mean(rows for canvas in canvases for rows in canvas.dense_rows),
        )
        if all(len(canvas.step_seconds) == 1 for canvas in canvases):
            self.parts[SELF_CONDITIONING] = Work()
        brand = machine.chip if machine.device == "gpu" else None
        self.chip = find_chip(brand, machine.gpu_cores) if brand else None

    @property
    def step(self) -> Work:
        """All of a step."""
        return total(self.parts)

    def component_rows(self, components: Components | None) -> dict[str, Any]:
        """Time, share, FLOPs and bytes of each component; {} where none were measured."""
        if components is None:
            return {}
        shares = components.shares
        return {
            name: {"ms": ms, "share": shares[name], **self._part(name, ms)}
            for name, ms in components.ms.items()
        }

    def bound_row(self, figures: dict[str, Any]) -> dict[str, Any] | None:
        """What the chip needs at least, and its share of what was measured; None if unknown."""
        if self.chip is None:
            return None
        C, commit_ms = self.config.canvas_length, figures["commit_ms"]
        least = bound(self.step, self.chip)
        prefill_ms = 1e3 * self.prompt / figures["prefill_tokens_per_second"]
        return {
            **asdict(self.chip),
            "compute_ms": least.compute_ms,
            "memory_ms": least.memory_ms,
            "share": least.ms / figures["step_ms"]["p50"],
            "prefill_share": self._encoding_ms(self.prompt, 0) / prefill_ms,
            "commit_share": self._encoding_ms(C, self.prefix) / commit_ms if commit_ms else None,
        }

    def _part(self, name: str, ms: float) -> dict[str, Any]:
        part = self.parts.get(name, Work())
        least = bound(part, self.chip).ms if self.chip and name in self.parts else None
        return {
            "gflop": part.flops / 1e9,
            "bytes": part.bytes,
            "bound_share": least / ms if least is not None and ms else None,
        }

    def _encoding_ms(self, tokens: int, prefix: int) -> float:
        if self.chip is None:
            raise RuntimeError("no chip, no bound")
        work = encode_work(self.config, tokens, prefix, self.bits, item_bytes=self.item_bytes)
        return bound(work, self.chip).ms
