"""FLOPs, bytes and bounds of a measured model, beside the time that it took."""

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
    """Components of a step; None where no step was repeated with fences."""
    pairs = [
        pair
        for canvas in measured.canvases
        for pair in zip(canvas.step_seconds, canvas.parts, strict=False)
    ]
    return summarise(*zip(*pairs, strict=True)) if pairs else None


class Accounting:
    """FLOPs and bytes of a model's step, prefill and commit, and the bounds of its chip.

    The step counted here has the median prefix of the measured steps, and their mean of dense rows.
    Without self-conditioning where every canvas took one step.
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
        """FLOPs and bytes of a whole step."""
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
        """The least times on this chip, and their share of those measured; None without a chip."""
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
