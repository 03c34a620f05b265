"""FLOPs, bytes and bounds of a measured model, beside the time that it took."""

from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Any

from ..machine.chips import Chip, chip_of
from ..model.bits import stored_bits
from ..model.roofline import bound
from ..model.work import SELF_CONDITIONING, Work, encode_work, experts_in_text, step_work, total
from .components import Components, summarise
from .measurement import Measurement


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

    The step counted here has the median prefix of the measured steps, and their mean rows by tier.
    Without self-conditioning where every canvas took one step. Where Macs share the model all of
    it is counted, and no bound is known.
    """

    def __init__(self, measured: Measurement) -> None:
        model, machine = measured.session.model, measured.machine
        self.config, self.item_bytes = model.config, model.dtype.size
        folder = Path(measured.session.info.path)
        self.bits = stored_bits(folder, self.config, self.item_bytes)
        canvases = measured.canvases
        self.prefix = round(median(canvas.prefix for canvas in canvases))
        self.prompt = round(median(len(record.question.tokens) for record in measured.records))
        self.dense_rows = mean(rows for canvas in canvases for rows in canvas.dense_rows)
        self.second_tier_rows = mean(rows for c in canvases for rows in c.second_tier_rows)
        self.conditions = any(len(canvas.step_seconds) > 1 for canvas in canvases)
        self.parts = self._step_work()
        self.step, self.step_in_text = total(self.parts), total(self._step_work(in_text=True))
        self.chip = chip_of(machine) if measured.alone else None

    def _step_work(self, *, in_text: bool = False) -> dict[str, Work]:
        """Work of a step by part; in_text: with the experts that a text uses, an assumption."""
        parts = step_work(
            self.config,
            self.prefix,
            self.bits,
            item_bytes=self.item_bytes,
            dense_rows=self.dense_rows,
            second_tier_rows=self.second_tier_rows,
            in_text=in_text,
        )
        return parts if self.conditions else {**parts, SELF_CONDITIONING: Work()}

    @property
    def work_row(self) -> dict[str, Any]:
        """FLOPs and bytes of a step: with all experts, and with those that a text uses."""
        text = self.config.text
        return {
            "gflop": self.step.flops / 1e9,
            "bytes": self.step.bytes,
            "experts": text.num_experts,
            "text_experts": experts_in_text(text.num_experts, text.top_k_experts),
            "text_bytes": self.step_in_text.bytes,
        }

    def component_rows(self, components: Components) -> dict[str, Any]:
        """Time, share, FLOPs and bytes of each component."""
        rows = {}
        for name, ms in components.ms.items():
            part = self.parts.get(name, Work())
            least = bound(part, self.chip).ms if self.chip and name in self.parts else None
            rows[name] = {
                "ms": ms,
                "share": components.shares[name],
                "gflop": part.flops / 1e9,
                "bytes": part.bytes,
                "bound_share": least / ms if least is not None and ms else None,
            }
        return rows

    def bound_row(self, figures: dict[str, Any]) -> dict[str, Any] | None:
        """The least times on this chip, and their share of those measured; None without a chip."""
        if (chip := self.chip) is None:
            return None
        C, commit_ms = self.config.canvas_length, figures["commit_ms"]
        least = bound(self.step, chip)
        prefill_ms = 1e3 * self.prompt / figures["prefill_tokens_per_second"]
        prefill = self._encoding_ms(chip, self.prompt, 0)
        commit = self._encoding_ms(chip, C, self.prefix)
        return {
            **asdict(chip),
            **asdict(least),
            "text_memory_ms": bound(self.step_in_text, chip).memory_ms,
            "share": least.ms / figures["step_ms"]["p50"],
            "prefill_share": prefill / prefill_ms,
            "commit_share": commit / commit_ms if commit_ms else None,
        }

    def _encoding_ms(self, chip: Chip, tokens: int, prefix: int) -> float:
        work = encode_work(self.config, tokens, prefix, self.bits, item_bytes=self.item_bytes)
        return bound(work, chip).ms
