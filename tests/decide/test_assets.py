"""Images of a request: where they stand, and what is none."""

import base64
from typing import Any, cast

import pytest
from fakes import FakeReader, FakeTexts, fake_model

import mlx_diffgemma as dg
from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.request import read_request

PNG = b"\x89PNG\r\n\x1a\n"
STILL = PNG + b"....IHDR........IDAT...."
MOVING = PNG + b"....IHDR....acTL....IDAT...."
JPEG = b"\xff\xd8\xff\xe0...."
HOLE = "<image:0123>"


def asset(content: bytes, **fields: Any) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {"type": "image", "format": "png", "data_base64": data, **fields}


def body(**fields: Any) -> dict[str, Any]:
    question = {"type": "noul", "instructions": "Is it a cat?"}
    return {"state": f"Look: {HOLE}!", "questions": {"q": question}, **fields}


def seen(given: dict[str, Any], parts: dict[str, bytes] | None = None, **options: Any) -> Any:
    """The text of the prompt, and its images."""
    model = fake_model(sees=True)
    request = read_request(given, parts)
    decide(request, model, request.options(samples=1, **options))
    prompt = cast(FakeReader, model.reader).prompts[0]
    return cast(FakeTexts, model.texts).text(prompt.ids), prompt.images


@pytest.mark.parametrize("part", [7, ["asset-0"], [], {}, None])
def test_a_part_has_a_name(part: object) -> None:
    with pytest.raises(dg.RequestError, match="expected the name of a part"):
        read_request(body(assets={HOLE: {"type": "image", "part": part}}), {"asset-0": STILL})


def test_an_image_stands_where_its_placeholder_stood() -> None:
    text, images = seen(body(assets={HOLE: asset(STILL)}))
    assert "Look: <|image|>!<turn|>" in text
    assert images == (("image", STILL),)


def test_placeholders_in_json_in_instructions_and_in_criteria_are_found() -> None:
    names = ['a "b"', "é", "c", "cc"]
    questions = {
        "q": {
            "type": "choice",
            "instructions": ["as in", "é"],
            "criteria": {"x": "c", "y": "cc"},
        }
    }
    contents = [STILL + bytes([i]) for i in range(4)]
    given = body(
        state={"photo": 'a "b"'},
        questions=questions,
        assets={name: asset(each) for name, each in zip(names, contents, strict=True)},
    )
    text, images = seen(given)
    assert '["as in", "<|image|>"]' in text
    assert "x (<|image|>)" in text
    assert "y (<|image|>)" in text
    assert '{"photo": "<|image|>"}' in text
    assert [contents.index(each) for _, each in images] == [1, 2, 3, 0]


def test_images_in_front_stand_in_front_of_the_state() -> None:
    url = f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"
    named = {"content_type": "image/png", "base64": base64.b64encode(STILL).decode()}
    for layout in ("joint", "own"):
        text, images = seen(body(state="x", images=[url, named]), layout=layout)
        assert "<|turn>user\n<|image|><|image|>x" in text
        assert images == (("image", JPEG), ("image", STILL))


def test_a_part_of_a_multipart_body_is_claimed_by_its_name() -> None:
    given = body(assets={HOLE: {"type": "image", "part": "asset-0"}})
    assert seen(given, {"asset-0": STILL})[1] == (("image", STILL),)
    with pytest.raises(dg.RequestError, match="no part of the body"):
        read_request(given)
    twice = {"type": "image", "part": "asset-0"}
    both = body(state=f"{HOLE} x1", assets={HOLE: twice, "x1": twice})
    with pytest.raises(dg.RequestError, match="claimed twice"):
        read_request(both, {"asset-0": STILL})


@pytest.mark.parametrize(
    ("assets", "location"),
    [
        ({}, ("assets",)),
        ([], ("assets",)),
        ({"unseen": asset(STILL)}, ("assets", "unseen")),
        ({"q": asset(STILL)}, ("assets", "q")),  # an id is no text
        ({HOLE: "x"}, ("assets", HOLE, "type")),
        ({HOLE: {"type": "video"}}, ("assets", HOLE, "type")),
        ({HOLE: asset(STILL, format="gif")}, ("assets", HOLE, "format")),
        ({HOLE: asset(b"GIF89a")}, ("assets", HOLE)),
        ({HOLE: asset(MOVING)}, ("assets", HOLE)),
        ({HOLE: asset(STILL, data_base64="%%")}, ("assets", HOLE, "data_base64")),
        ({HOLE: asset(STILL, data_base64=None)}, ("assets", HOLE, "data_base64")),
        ({HOLE: asset(b"")}, ("assets", HOLE, "data_base64")),
    ],
)
def test_what_is_no_asset_is_refused_by_its_placeholder(assets: Any, location: Any) -> None:
    with pytest.raises(dg.RequestError) as caught:
        read_request(body(assets=assets))
    assert caught.value.location == location
    assert caught.value.status == 422


@pytest.mark.parametrize("images", ["x", [1], ["http://x/y.png"], [{"base64": "eA=="}]])
def test_what_is_no_image_is_refused(images: Any) -> None:
    with pytest.raises(dg.RequestError) as caught:
        read_request(body(images=images))
    assert caught.value.location[0] == "images"


def test_an_image_that_cannot_be_decoded_is_named() -> None:
    for field, location in (
        ({"assets": {HOLE: asset(STILL + b"broken")}}, ("assets", HOLE)),
        ({"images": [f"data:image/png;base64,{base64.b64encode(b'broken').decode()}"]},
         ("images", 0)),
    ):  # fmt: skip
        with pytest.raises(dg.RequestError) as caught:
            seen(body(**field))
        assert caught.value.location == location


@pytest.mark.parametrize("name", ["assets", "images"])
def test_a_model_that_sees_nothing_is_given_no_image(name: str) -> None:
    url = f"data:image/png;base64,{base64.b64encode(STILL).decode()}"
    given = {"assets": {HOLE: asset(STILL)}} if name == "assets" else {"images": [url]}
    with pytest.raises(dg.RequestError, match="fake-1 sees none") as caught:
        decide(read_request(body(**given)), fake_model())
    assert caught.value.location == (name,)
