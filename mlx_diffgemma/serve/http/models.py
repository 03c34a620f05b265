"""The model that is served, as clients of three APIs ask for it: each has its keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..engine.engine import Facts

OWNER = "mlx-diffgemma"


def model_of(facts: Facts) -> dict[str, Any]:
    """One model, for OpenAI's and Anthropic's clients, and what agents look for beside."""
    made = datetime.fromtimestamp(facts.created, UTC)
    return {
        "id": facts.name,
        "object": "model",
        "created": facts.created,
        "owned_by": OWNER,
        "context_length": facts.context_length,
        "max_model_len": facts.context_length,
        "type": "model",
        "display_name": facts.name,
        "created_at": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": facts.context_length,
        "max_tokens": facts.context_length,
        "x_canvas_length": facts.canvas_length,
        "x_mode": facts.mode,
        "x_quantization": facts.quantization,
        "x_images": facts.sees,
    }


def models_of(facts: Facts) -> dict[str, Any]:
    """The list of models, which is one long; `models` is for clients of decisions."""
    made = datetime.fromtimestamp(facts.created, UTC)
    told = f"canvases of {facts.canvas_length} tokens, a context of {facts.context_length:,}"
    return {
        "object": "list",
        "data": [model_of(facts)],
        "has_more": False,
        "first_id": facts.name,
        "last_id": facts.name,
        "models": [
            {"name": facts.name, "description": told, "release_date": made.strftime("%Y-%m-%d")}
        ],
    }
