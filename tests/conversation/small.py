"""Small sessions: a random network that reads ASCII, and a model that is told what to say."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from checkpoints import Sizes, edit_config, edit_json, write_checkpoint
from fake_model import CertainModel, Floats, tiny_config, wanting
from numpy.typing import NDArray

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.conversation.reply import ModelInfo
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.images.pixels import Pixels, Source
from mlx_diffgemma.images.video import Clip
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

# Small weights do not amplify rounding, so a cache that was filled in other portions still gives
# the same tokens; the sharp head keeps tokens apart: the best two logits differ by 0.06 and more.
SIZES = Sizes(
    layers="ssf",
    vocab_size=128,
    sliding_window=16,
    canvas_length=8,
    max_position_embeddings=4096,
    std=0.03,
    sharpness=40.0,
)
SUDOKU = cast(Path, embedded_folder("tiny-sudoku"))
TURN, NEWLINE = 4, 10  # in tiny-sudoku's tokenizer; other ids are ASCII codes from 32 on
MARKERS = (
    "<|think|>",
    "<|channel>",
    "<channel|>",
    "<|tool_call>",
    "<tool_call|>",
    '<|"|>',
    "<end>",
)
WORDS = ("hello", " the", " sky", "thought")
TEMPLATE = (
    "{{ bos_token }}{% if enable_thinking %}{{ '<|turn>system\\n<|think|><turn|>\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
    "{{ message['content'] + '<turn|>\\n' }}{% endfor %}{{ '<|turn>model\\n' }}"
)


BEGIN, SOFT, END = IMAGE_IDS = 14, 26, 15
PATCHES = 224  # positions along a side that the tower knows: a frame of a video has up to 210
SEEING_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{{ part['text'] if part['type'] == 'text' else '<|' + part['type'] + '|>' }}"
    "{% endfor %}{% endif %}{{ '<turn|>\\n' }}{% endfor %}{{ '<|turn>model\\n' }}"
)


def write_random(folder: Path, sizes: Sizes = SIZES) -> Path:
    """A random checkpoint with tiny-sudoku's tokenizer and template, but not its task."""
    write_checkpoint(folder, sizes, generation={"max_denoising_steps": 4})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SUDOKU / name, folder)
    return folder


def write_seeing(folder: Path, sizes: Sizes = SIZES, template: str = SEEING_TEMPLATE) -> Path:
    """As `write_random`, with a tower that gives an image four soft tokens at most.

    Begin, soft token and end have the ids and names that tiny-sudoku has for them.
    """
    write_random(folder, replace(sizes, vision=True, tower={"position_embedding_size": PATCHES}))
    ids = dict(zip(("boi_token_id", "image_token_id", "eoi_token_id"), IMAGE_IDS, strict=True))
    edit_config(folder, lambda config: config.update(ids))
    edit_json(folder / "tokenizer_config.json", chat_template=template)
    (folder / "processor_config.json").write_text('{"image_processor": {"max_soft_tokens": 4}}')
    return folder


def picture(seed: int, width: int = 96, height: int = 96) -> Pixels:
    """An image of random pixels, as if it had been twice as large."""
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Pixels(rgb, 2 * width, 2 * height, Source(f"{seed}.png", f"{seed:064x}"))


def clip(*seeds: int, seconds: float | None = None) -> Clip:
    """A video of one frame a second, 48 x 48 pixels each."""
    frames = tuple(picture(seed, 48, 48) for seed in seeds)
    stamps = tuple(f"00:{second:02}" for second in range(len(frames)))
    return Clip(frames, stamps, seconds or float(len(frames)), Source("film.gif", "f" * 64), 9)


def write_tokenizer(folder: Path, template: str | None = TEMPLATE) -> Tokenizer:
    """tiny-sudoku's tokenizer with the chat markers and a few whole words behind its 128 ids.

    Text is always encoded letter by letter, so a word the model says differs from its rendering.
    """
    content = json.loads((SUDOKU / "tokenizer.json").read_text())
    vocab = content["model"]["vocab"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for piece in (*MARKERS, *WORDS):
        vocab[piece] = len(vocab)
    for piece in MARKERS:
        added = {"id": vocab[piece], "content": piece, "special": True, **plain}
        content["added_tokens"].append(added)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    config = {"bos_token": "<bos>", "eos_token": "<end>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return load_tokenizer(folder)


def spell(tokenizer: Tokenizer, *pieces: str) -> list[int]:
    """Ids of pieces: a marker or one of WORDS is one id, anything else an id a letter."""
    ids: list[int] = []
    for piece in pieces:
        whole = tokenizer.id_of(piece)
        ids += tokenizer.encode(piece) if whole is None else [whole]
    return ids


def talker(tokenizer: Tokenizer, *scripts: Sequence[int], canvas: int = 6) -> Session:
    """A session whose model says a script a turn, and "_" behind it; <end> is its stop id."""
    end = cast(int, tokenizer.id_of("<end>"))
    config = tiny_config(vocab=tokenizer.vocab_size, canvas=canvas, stop_ids=[end])

    def network(prefix: list[int], now: NDArray[np.int32], soft: Floats | None) -> Floats:
        turns = [at for at, token in enumerate(prefix) if token == TURN]
        questions = sum(prefix[at + 1] == tokenizer.id_of("user") for at in turns)
        said = len(prefix) - (turns[-1] + 3)  # behind "<|turn>", "model" and the line break
        script = scripts[min(questions, len(scripts)) - 1]
        rest = [*script[said : said + canvas], *[ord("_")] * canvas]
        return wanting(rest[:canvas])

    info = ModelInfo(path="none", revision=None, quantization=None, layers=1, parameters=0)
    return Session(cast(Model, CertainModel(config, network)), tokenizer, info)
