"""Macs that share an answer agree on what is asked before anything is computed."""

import json
from dataclasses import replace
from hashlib import sha256

from ..errors import Setting, SettingsError
from ..model.prefix import Prefix
from ..share.guard import number_from_rank_0, require_agreement
from ..share.part import Part
from ..share.share import ALONE, Share
from .noise import fresh_seed
from .prompt import Prompt
from .settings import Resolved, Settings


def shared_seed(share: Share) -> int:
    """A fresh seed, the same on all Macs that share an answer."""
    return number_from_rank_0(share, fresh_seed())


def seeded(settings: Settings | None, share: Share = ALONE) -> Settings:
    """The settings, with a fresh seed where none was chosen; the same on Macs that share."""
    settings = settings or Settings()
    return settings if settings.seed is not None else replace(settings, seed=shared_seed(share))


def require_shareable(part: Part, mode: str) -> None:
    """SettingsError for a mode in which Macs cannot share an answer as they share the network."""
    if part.share.alone or mode == "diffusion" or part.cut != "rows":
        return
    raise SettingsError(
        Setting("mode"),
        f" is {mode!r}, expected 'diffusion' where Macs share by rows: a token has one row; choose "
        "it, or ask one Mac alone.",
    )


def require_same_answer(share: Share, prompt: Prompt, prefix: Prefix, resolved: Resolved) -> None:
    """ShareError where a Mac is asked something else, or with other settings or another seed."""
    if share.alone:
        return
    kept = json.dumps(prefix.tokens).encode()
    images = "".join(f"{image.span} {image.digest};" for image in prompt.images)
    require_agreement(
        share,
        {
            "the seed": resolved.seed,
            "the prompt": sha256(json.dumps(prompt.tokens).encode()).hexdigest()[:16],
            "the images": sha256(images.encode()).hexdigest()[:16],
            "the conversation": f"{prefix.length} positions, {sha256(kept).hexdigest()[:16]}",
            "the settings": repr((resolved.sampler, resolved.tokens)),
        },
    )
