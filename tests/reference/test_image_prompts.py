"""Prompts with images and videos have the ids that the reference's processor gives them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("transformers")

from small import SEEING_TEMPLATE, SOFT, clip, write_seeing
from transformers import PreTrainedTokenizerFast
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor

from mlx_diffgemma.checkpoint.vision import ImageIds
from mlx_diffgemma.images.prepare import prepare_image
from mlx_diffgemma.text.chat import Message, encode_raw, render_prompt
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

pytestmark = pytest.mark.reference
IDS = ImageIds(14, SOFT, 15)
SIZES = [(64, 48), (300, 100), (97, 251)]  # width and height


class Processor(Gemma4Processor):
    """The reference's, without the parts for sound and video, which want other libraries."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seeing(tmp_path_factory.mktemp("seeing"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def processor(folder: Path) -> Processor:
    tokens = {"boi_token": "<|image>", "image_token": "<|image|>", "eoi_token": "<image|>"}
    own = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        bos_token="<bos>",
        pad_token="<pad>",
        extra_special_tokens=tokens,
    )
    images = Gemma4ImageProcessorPil()
    processor = Processor(None, images, own, None, chat_template=SEEING_TEMPLATE)
    processor.audio_token = processor.boa_token = processor.eoa_token = "<unk>"  # looked for first
    return processor


def pictures(folder: Path) -> list[Path]:
    """Three image files of random pixels."""
    files = []
    for number, (width, height) in enumerate(SIZES):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        files.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


@pytest.mark.parametrize(
    "turns",
    [
        [("What?", [0])],
        [("", [1])],
        [("Which?", [2, 0, 1])],
        [("What?", [0]), ("And now?", []), ("These?", [1, 2])],
    ],
)
def test_a_conversation_with_images(
    tmp_path: Path, tokenizer: Tokenizer, processor: Processor, turns: list[tuple[str, list[int]]]
) -> None:
    files = pictures(tmp_path)
    ours: list[Message] = []
    theirs: list[dict[str, Any]] = []
    for text, shown in turns:
        if ours:
            ours.append(Message("assistant", "Blue."))
            theirs.append({"role": "assistant", "content": "Blue."})
        media = tuple(prepare_image(files[n]) for n in shown)
        ours.append(Message("user", text, media))
        parts = [{"type": "image"} for _ in shown] + ([{"type": "text", "text": text}] * bool(text))
        theirs.append({"role": "user", "content": parts if shown else text})
    rendered = processor.apply_chat_template(theirs, add_generation_prompt=True, tokenize=False)
    images = [Image.open(files[n]) for _, shown in turns for n in shown]
    expected = processor(text=[rendered], images=[images])
    prompt = render_prompt(tokenizer, ours, image_ids=IDS)
    assert prompt.ids == expected["input_ids"][0]
    assert prompt.ids.count(SOFT) == sum(image.soft_tokens for image in prompt.images)
    types = [int(token == SOFT) for token in prompt.ids]
    assert types == expected["mm_token_type_ids"][0]


def test_the_frames_of_a_video(tokenizer: Tokenizer, processor: Processor) -> None:
    """Theirs hold the token of a video, which the network does not read: ours that of an image."""
    film = clip(*range(60))
    metadata = SimpleNamespace(fps=1, timestamps=[float(second) for second in range(60)])
    inputs = {"num_soft_tokens_per_video": [1], "video_metadata": [metadata]}
    text = processor.replace_video_token(inputs, 0).replace("<|video|>", "<|image|>")
    ours = encode_raw(tokenizer, "a<|video|>b", [film], IDS)
    assert ours.ids == tokenizer.encode(f"a{text}b")
    assert len(ours.images) == 60
