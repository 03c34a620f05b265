"""`rm`: a model taken out of the Hub's local cache, after a question."""

from difflib import get_close_matches

from ...assets import EMBEDDED
from ...checkpoint.cache import cached_names, repo_folder
from ...checkpoint.cached import CachedModel, plan_removal, take_stock
from ...checkpoint.hub import local_folder
from ...errors import HubError, shown
from ...model.memory import sized
from ..errors import FAILED, ArgumentError
from ..terminal.output import require_output, write_lines
from ..terminal.streams import say
from .consent import can_ask, confirmed


def remove(name: str, revision: str | None, *, yes: bool) -> int:
    """Remove a repository, or one revision of it; 1 where the answer is no."""
    require_output()
    removal = plan_removal(_model(name), revision)
    what = f"{name} {revision}" if removal.commits else name
    if not yes:
        if not can_ask():
            raise ArgumentError(f"nobody can be asked whether to remove {what}; --yes does it.")
        if not confirmed(f"Remove {what} and free {sized(removal.num_bytes)}?", usual=False):
            say("nothing was removed.")
            return FAILED
    removal.execute()
    write_lines([f"removed {what}: {sized(removal.num_bytes)} are free again."])
    return 0


def _model(name: str) -> CachedModel:
    """The cached model of this name; HubError for what is not there, or not for us to remove."""
    if name in EMBEDDED:
        raise HubError(f"{name} comes with this program, and cannot be removed alone.")
    for model in take_stock().models:
        if model.repo_id == name:
            return model
    if local_folder(name) is not None:
        raise HubError(f"{name} is a folder of yours, not in the local cache; remove it yourself.")
    if "/" in name and repo_folder(name).is_dir():
        raise HubError(f"{name} is no DiffusionGemma; `hf cache rm` removes other models.")
    near = get_close_matches(name, cached_names(), n=1)
    hint = f"did you mean {near[0]}?" if near else "`mlx-diffgemma list` shows what is there."
    raise HubError(f"{shown(name)} is not in the local cache; {hint}")
