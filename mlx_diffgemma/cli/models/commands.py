"""The commands `pull`, `list` and `rm`, and their options."""

from dataclasses import MISSING, dataclass

from ..options import REVISION_HELP, ReportOptions
from ..parameters import Values, argument, flag, flattened, option


def _cached() -> list[str]:
    """The names that completion offers."""
    from ...checkpoint.cache import cached_names

    return cached_names()


@dataclass(frozen=True)
class PullOptions:
    """The repository to fetch."""

    repository: str | None = argument(
        "REPO",
        "A repository of the Hugging Face Hub. Default: $MLX_DIFFGEMMA_MODEL, else the config "
        "file's model, else the published 4-bit checkpoint.",
        values=Values(_cached),
    )
    revision: str | None = option("--revision", REVISION_HELP, "REVISION")
    yes: bool = flag("--yes", "Fetch it also where it does not fit into memory, unasked.")


@flattened()
def pull_command(given: PullOptions, output: ReportOptions) -> int:
    """Fetch a model into the local cache of the Hub, and check what lies there.

    Says first what it takes of this machine. A download that was stopped goes on where it
    stopped. Every size, and every hash that the Hub states, is compared; a file that is wrong is
    fetched again.
    """
    from ...checkpoint.default import default_model
    from .pull import pull

    name = default_model() if given.repository is None else given.repository
    return pull(name, given.revision, yes=given.yes, as_json=output.as_json)


@flattened()
def list_command(output: ReportOptions) -> int:
    """List the models that are on this machine: those in the Hub's local cache, and the embedded.

    Folders elsewhere, such as `convert` makes, are not looked for.
    """
    from .listing import show_models

    return show_models(output.as_json)


@dataclass(frozen=True)
class RemovalOptions:
    """The repository to remove from the cache."""

    repository: str = argument(
        "REPO", "A repository in the local cache.", default=MISSING, values=Values(_cached)
    )
    revision: str | None = option(
        "--revision", "Remove this branch, tag or commit alone. Default: all there is.", "REVISION"
    )
    yes: bool = flag("--yes", "Do not ask.")


@flattened()
def rm_command(given: RemovalOptions) -> int:
    """Remove a model from the local cache of the Hub, after a question.

    What another revision, or another repository, uses as well stays. Folders and the embedded
    models are not touched.
    """
    from .removal import remove

    return remove(given.repository, given.revision, yes=given.yes)
