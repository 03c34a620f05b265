"""`scripts/release_check`: what it finds in a wheel, and what it says is left to do."""

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says

ROOT = Path(__file__).parents[1]
SCRIPTS = str(ROOT / "scripts")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)

import distribution  # noqa: E402
import release  # noqa: E402
from distribution import ReleaseError  # noqa: E402

PYPROJECT = """
[project]
name = "mlx-diffgemma"
version = "1.2.0"
[project.optional-dependencies]
image = []
test = []
[tool.setuptools.package-dir]
"mlx_diffgemma.metal" = "metal"
"""
README = "# A title\n\n![picture](docs/picture.svg) and [a page](https://example.org)\n"
UNRELEASED = "# Changelog\n\n## [Unreleased]\n\n- New.\n"
RELEASED = (
    "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-11-29\n\n- New.\n\n## [1.1.0]\n\n- Old.\n"
)
FILES = {
    "pyproject.toml": PYPROJECT,
    "README.md": README,
    "CHANGELOG.md": RELEASED,
    "mlx_diffgemma/__init__.py": "",
    "metal/kernel.metal": "kernel",
}
PACKED = ("mlx_diffgemma/__init__.py", "mlx_diffgemma/metal/kernel.metal")


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A committed repository of a package with one file in metal/."""
    root = tmp_path / "a clone"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "mlx_diffgemma/metal").symlink_to("../metal")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "all")
    return root


def wheel(folder: Path, names: Any = PACKED, **changes: Any) -> Path:
    """A wheel with these files and its metadata."""
    facts: dict[str, Any] = {
        "Version": "1.2.0",
        "Provides-Extra": ["image", "test"],
        "Description-Content-Type": "text/markdown",
    }
    said = {**facts, **{name.replace("_", "-"): value for name, value in changes.items()}}
    body = said.pop("body", README)
    lines = [f"{name}: {v}" for name, values in said.items() for v in _listed(values)]
    file = folder / "mlx_diffgemma-1.2.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
        archive.writestr("mlx_diffgemma-1.2.0.dist-info/METADATA", "\n".join([*lines, "", body]))
    return file


def _listed(values: Any) -> list[str]:
    return values if isinstance(values, list) else [values]


def test_a_whole_wheel_is_described(clone: Path, tmp_path: Path) -> None:
    assert_says(distribution.require_files(wheel(tmp_path), clone), "bytes ... all 2 files")


@pytest.mark.parametrize(
    ("names", "changes", "facts"),
    [
        (PACKED[:1], {}, "lacks mlx_diffgemma/metal/kernel.metal"),
        ((*PACKED, "mlx_diffgemma/own.txt"), {}, "git does not know: mlx_diffgemma/own.txt"),
        (PACKED, {"Version": "1.1.0"}, "Version: 1.1.0, expected 1.2.0"),
        (PACKED, {"Provides_Extra": ["test"]}, "extras: ['test'], expected ['image', 'test']"),
        (PACKED, {"Description_Content_Type": "text/x-rst"}, "text/x-rst, expected text/markdown"),
        (PACKED, {"body": "Another page."}, "is not README.md"),
    ],
)
def test_a_wheel_that_is_not_whole_is_refused(
    names: Any, changes: Mapping[str, Any], facts: str, clone: Path, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError) as caught:
        distribution.require_files(wheel(tmp_path, names, **changes), clone)
    assert_says(str(caught.value), facts)


def test_a_wheel_that_is_too_large_is_refused(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert distribution.MAX_WHEEL_BYTES == 12_000_000
    monkeypatch.setattr(distribution, "MAX_WHEEL_BYTES", 100)
    with pytest.raises(ReleaseError) as caught:
        distribution.require_files(wheel(tmp_path), clone)
    assert_says(str(caught.value), "allowed are 100")


def test_a_wheel_made_of_the_sdist_must_be_the_same(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = wheel(tmp_path / "one"), wheel(tmp_path / "other")
    distribution.require_same(one, other)
    other = wheel(tmp_path / "other", PACKED[:1])
    with pytest.raises(ReleaseError) as caught:
        distribution.require_same(one, other)
    assert_says(str(caught.value), "differs in mlx_diffgemma/metal/kernel.metal")


def test_what_git_does_not_know_is_not_packed(clone: Path, tmp_path: Path) -> None:
    """A build packs whatever lies in the folder, such as build/ of the one before it."""
    (clone / "mlx_diffgemma/leftover.py").write_text("")
    (clone / "metal/kernel.metal").unlink()
    copy = distribution.copied(clone, tmp_path / "copy")
    assert not (copy / "mlx_diffgemma/leftover.py").exists()
    assert not (copy / "metal/kernel.metal").exists()
    assert (copy / "mlx_diffgemma/metal").is_symlink()


def test_a_program_that_fails_is_one_line(tmp_path: Path) -> None:
    code = "import sys; sys.exit('first line\\nlast line')"
    with pytest.raises(ReleaseError) as caught:
        release.run([sys.executable, "-c", code], tmp_path, {})
    assert_says(str(caught.value), "ends with 1: first line last line")


# --- the tag and the notes


def test_the_notes_are_the_tags_section(clone: Path) -> None:
    assert release.notes("v1.2.0", clone) == "- New."


@pytest.mark.parametrize(
    ("tag", "changelog", "facts"),
    [
        ("v1.3.0", RELEASED, "v1.3.0 ... version 1.2.0"),
        ("1.2.0", RELEASED, "1.2.0 ... version 1.2.0"),
        ("v1.2.0", UNRELEASED, "no section [1.2.0]"),
        ("v1.2.0", "## [1.2.0]\n\n## [1.1.0]\n\n- Old.\n", "no section [1.2.0]"),
    ],
)
def test_a_tag_that_fits_nothing_is_refused(
    tag: str, changelog: str, facts: str, clone: Path
) -> None:
    (clone / "CHANGELOG.md").write_text(changelog)
    with pytest.raises(ReleaseError) as caught:
        release.notes(tag, clone)
    assert_says(str(caught.value), facts)


def test_a_clean_tree_with_its_section_is_only_tagged(clone: Path) -> None:
    *links, tag = release.to_do(clone)
    assert_says(links[0], "1 links ... PyPI ... [project.urls]")
    assert (len(links), tag.startswith("git tag v1.2.0 ")) == (1, True)


def test_what_is_left_to_do_is_said(clone: Path) -> None:
    git(clone, "tag", "v1.2.0")
    (clone / "CHANGELOG.md").write_text(UNRELEASED)
    said = list(release.to_do(clone))
    assert_says(said[0], "dirty ... 1")
    assert_says(said[1], "v1.2.0 is tagged ... pyproject.toml")
    assert_says(said[2], "[Unreleased] ... [1.2.0]")
    (clone / "CHANGELOG.md").write_text("# Changelog\n")
    assert_says(list(release.to_do(clone))[2], "no section [1.2.0]")


def test_an_error_ends_the_script_in_one_line() -> None:
    with pytest.raises(SystemExit) as caught:
        release.main(["notes", "v0"])
    assert_says(str(caught.value), "error: the tag is v0")
    with pytest.raises(SystemExit) as caught:
        release.main(["files", "dist/*.whl"])  # where a shell finds none
    assert_says(str(caught.value), "error: ... No such file ... dist/*.whl")


# --- this repository


@pytest.mark.slow
def test_this_tree_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    """Built twice, looked into, installed elsewhere and used there, with borrowed dependencies."""
    release.check(ROOT, network=False)
    said = capsys.readouterr().err
    (size,) = (line for line in said.splitlines() if ".whl: " in line)
    assert_says(size, "bytes, ... of what is allowed; all")
    assert "sound: " in said
    assert_says(said.splitlines()[-1], f"git tag v{distribution.project(ROOT)['version']}")
