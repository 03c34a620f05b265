"""Questions as rank 0 tells them to the other Macs: what was asked, its seed, and its pixels."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from ...conversation.form import Wanted
from ...decide.assets import Asset
from ...decide.request import Request, read_request
from ...generation.settings import Settings
from ...images.wire import media_from_json, media_to_json
from ...share.jobs import Job, told
from ...text.holes import Field, Template
from ..asked import Asked, Chat, Completion, Infill
from ..refusal import Refusal

if TYPE_CHECKING:
    from .loaded import Ready

ANSWER, DECIDE, LOAD, UNLOAD = "answer", "decide", "load", "unload"


def told_question(ready: Ready) -> Job:
    """The job of a question that was prepared."""
    asked, checked = ready.asked, ready.question.checked
    settings = replace(asked.settings, seed=checked.settings.seed)
    job = {"do": ANSWER, "settings": vars(settings), "drafts": asked.drafts}
    if isinstance(asked, Completion):
        return {**job, "prompt": asked.prompt}
    job["media"] = media_to_json(checked.question.media)
    if isinstance(asked, Infill):
        assert asked.template is not None
        of_template = {"prompt": asked.prompt, "hole_only": asked.hole_only}
        return {**job, **of_template, "template": asdict(asked.template)}
    wanted, messages = vars(asked.wanted), list(asked.messages)
    return {**job, "wanted": wanted, "messages": messages, "think": asked.think}


def require_tellable(job: Job) -> Job:
    """The job; Refusal for one that the others could not read, nested as deep as JSON may be."""
    try:
        told(job)
    except ValueError as error:
        raise Refusal("invalid", f"it is {error} with what other Macs are told.") from None
    return job


def asked_of(job: Job) -> Asked:
    """The question of a job; its images are prepared ones."""
    common = {"settings": Settings(**job["settings"]), "drafts": job["drafts"]}
    images = cast("tuple[bytes, ...]", media_from_json(job.get("media", [])))
    if "template" in job:
        template = _template(job["template"])
        return Infill(
            **common,
            template=template,
            prompt=job["prompt"],
            images=images,
            hole_only=job["hole_only"],
        )
    if "messages" not in job:
        return Completion(**common, prompt=job["prompt"])
    messages, wanted = tuple(job["messages"]), Wanted(**job["wanted"])
    return Chat(**common, messages=messages, images=images, wanted=wanted, think=job["think"])


def _template(value: dict[str, Any]) -> Template:
    fields = tuple(None if each is None else Field(**each) for each in value["fields"])
    texts, lengths, lines = (tuple(value[name]) for name in ("texts", "lengths", "lines"))
    return Template(texts, lengths, lines, fields)


def told_request(request: Request) -> Job:
    """The job of a request for a decision whose images are prepared."""
    body = {
        "state": request.state,
        "questions": {name: each.to_json() for name, each in request.questions.items()},
        **request.given,
    }
    if request.instructions is not None:
        body["instructions"] = request.instructions
    if request.model is not None:
        body["model"] = request.model
    assets = [asset.placeholder for asset in request.assets]
    pixels = (*request.images, *(cast(Any, asset.content) for asset in request.assets))
    return {"do": DECIDE, "body": body, "assets": assets, "media": media_to_json(pixels)}


def request_of(job: Job) -> Request:
    """The request of a job."""
    media, names = media_from_json(job["media"]), job["assets"]
    count = len(media) - len(names)
    pixels = cast("tuple[Any, ...]", media[count:])
    assets = tuple(Asset(name, content) for name, content in zip(names, pixels, strict=True))
    return replace(read_request(job["body"]), images=media[:count], assets=assets)
