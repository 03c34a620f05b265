"""Images and videos that go from one Mac to another as they are."""

import json

import numpy as np

from mlx_diffgemma.images.pixels import Pixels, Source
from mlx_diffgemma.images.video import Clip
from mlx_diffgemma.images.wire import media_from_json, media_to_json


def test_the_very_pixels_come_back() -> None:
    random = np.random.default_rng(1)
    images = [
        Pixels(random.integers(0, 256, shape, np.uint8), 100, 50, Source(path, "ab"))
        for shape, path in (((48, 96, 3), "a.png"), ((96, 48, 3), None))
    ]
    clip = Clip(tuple(images), ("00:00", "00:01"), 1.5, Source("b.mp4", "cd"), 36)
    told = json.loads(json.dumps(media_to_json((*images, clip))))
    *same, film = media_from_json(told)
    assert isinstance(film, Clip)
    assert (film.stamps, film.seconds, film.source, film.source_frames) == (
        *(clip.stamps, clip.seconds, clip.source),
        clip.source_frames,
    )
    for before, after in zip([*images, *images], [*same, *film.frames], strict=True):
        assert isinstance(after, Pixels)
        assert after.digest == before.digest
        assert (after.width, after.height, after.source) == (100, 50, before.source)
