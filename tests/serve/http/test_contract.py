"""The contract of decisions as others test it: jevcompat's requirements, TypeSafe's own client."""

import asyncio
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deciding import DecidingEngine
from fakes import fake_model
from labelled import labelled_engine, write_labelled
from live import running
from tiny_engines import tiny_engine
from waiting import SECONDS

KEYS = {"auth.bearer", "auth.missing", "auth.invalid"}
"""Requirements of a server with a key."""

TOGETHER = {"semantics.batching", "semantics.question-order"}
"""What a shared prompt cannot promise."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("layout", "failing"), [("own", set()), ("joint", TOGETHER), ("rows", TOGETHER)]
)
def test_every_requirement_is_met(layout: str, failing: set[str]) -> None:
    from jevcompat import runner

    with running(DecidingEngine(layout=layout)) as server:
        report = runner.run(server.url)
    assert report.verdict == "conformant"
    failed = {each.id: each.findings for each in report.results if each.status == "fail"}
    assert failed.keys() == failing, failed
    assert {each.id for each in report.results if each.status == "skip"} == KEYS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled(tmp_path_factory.mktemp("labelled"))


@pytest.mark.parametrize("network", [False, True])
def test_jevcompat_exits_with_0(folder: Path, network: bool) -> None:
    with running(labelled_engine(folder) if network else DecidingEngine()) as server:
        main = "import sys; from jevcompat.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", main, "test", server.url]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_tiny_chat_lacks_room_for_64_options_and_nothing_else() -> None:
    from jevcompat import runner

    with running(tiny_engine()) as server:
        report = runner.run(server.url)
    failed = {each.id: each.findings for each in report.results if each.status == "fail"}
    assert failed.keys() == {"choice.options"}, failed


def asked() -> dict[str, Any]:
    from typesafe_sdk import Choice, Noul, Score

    return {
        "refund": Noul(instructions="Do they want a refund?"),
        "team": Choice(instructions="Who?", criteria={"Billing": "money", "Technical": None}),
        "anger": Score(instructions="How angry?", criteria=["calm", "angry"]),
    }


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("compression", ["zstd", False])
def test_typesafes_client_reads_every_answer(compression: Any, network: bool, folder: Path) -> None:
    from typesafe_sdk import AsyncTypeSafeClient, TypeSafeClient

    state = {"text": "Refund me. " * 300}

    async def at_once(given: dict[str, Any]) -> Any:
        async with AsyncTypeSafeClient(**given) as client:
            return await client.system_one(state=state, questions=asked())

    with running(labelled_engine(folder) if network else DecidingEngine()) as server:
        given = {"api_key": "none", "base_url": server.url, "compression": compression}
        with TypeSafeClient(**given) as client:
            found = client.system_one(state=state, questions=asked())
            names = [model.name for model in client.models.list().models]
        again = asyncio.run(at_once(given))
    assert 0 <= found.nouls["refund"].noul <= 1
    assert found.choices["team"].choice in ("Billing", "Technical")
    assert sum(found.scores["anger"].probabilities.values()) == pytest.approx(1)
    assert again.nouls["refund"].noul == found.nouls["refund"].noul
    assert found.request_id
    assert names == ["labelled" if network else "scripted"]


def test_typesafes_client_sends_images() -> None:
    from PIL import Image as Pillow
    from typesafe_sdk import Image, Noul, TypeSafeClient

    file = io.BytesIO()
    Pillow.new("RGB", (8, 8), "red").save(file, "png")
    with running(DecidingEngine(model=fake_model(sees=True))) as server:
        given = {"api_key": "none", "base_url": server.url}
        with TypeSafeClient(**given) as client:
            image = Image(file.getvalue())
            found = client.system_one(
                state={"photo": image}, questions={"red": Noul(instructions="Is it red?")}
            )
            placed = client.system_one(
                state="Look at IMG!",
                questions={"red": Noul(instructions="Is it red?")},
                assets={"IMG": image},
            )
    assert 0 <= found.nouls["red"].noul <= 1
    assert 0 <= placed.nouls["red"].noul <= 1


def test_typesafes_client_reads_errors() -> None:
    from typesafe_sdk import Noul, TypeSafeBadRequestError, TypeSafeClient

    with (
        running(DecidingEngine()) as server,
        TypeSafeClient(api_key="none", base_url=server.url, model="jev-1.13.0") as client,
        pytest.raises(TypeSafeBadRequestError, match="jev-latest"),
    ):
        client.system_one(state="x", questions={"q": Noul(instructions="?")})
