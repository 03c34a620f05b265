#!/usr/bin/env python3
"""Write tests/golden/pixels.npz: what transformers' own image processor makes of small images.

    .venv/bin/python scripts/make_golden_pixels.py             write the file
    .venv/bin/python scripts/make_golden_pixels.py --check     compute again, compare, write nothing

Needs the reference extra. An image is stored as its pixels, `N.image` uint8 [H, W, channels], and
a palette where it has one, `N.palette`; its mode and budget stand in `cases`. The result is
`N.values`, uint8 [P, 768], each of which the processor multiplies by 1/255, and `N.positions`,
uint8 [P, 2]. The budgets are smaller than any that the processor offers, to keep the file small;
the rule is the same.
"""

import argparse
import json
import sys
from importlib import import_module
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TESTS = Path(__file__).resolve().parents[1] / "tests"
GOLDEN = TESTS / "golden" / "pixels.npz"
sys.path.insert(0, str(TESTS / "images"))
pictures = import_module("pictures")

Arrays = dict[str, NDArray[Any]]

SIZES = ((31, 17), (9, 40), (1, 200), (200, 1), (120, 100), (48, 48), (7, 7), (97, 53))
BUDGETS = (1, 2, 3, 4)
LIBRARIES = ("transformers", "pillow", "numpy")


def main() -> int:
    """0 where the file is written, or is found to be right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    made = golden()
    if check:
        with np.load(GOLDEN) as there:
            wrong = sorted(k for k in made if not np.array_equal(made[k], there[k]))
            wrong = [key for key in wrong if key != "versions"]
        print(f"{GOLDEN.name}: {', '.join(wrong) or 'equal'}")
        return bool(wrong)
    out = BytesIO()
    np.savez_compressed(out, allow_pickle=False, **made)
    GOLDEN.write_bytes(out.getvalue())
    print(f"{GOLDEN.name}: {len(out.getvalue()):,} bytes")
    return 0


def golden() -> Arrays:
    """All cases, each mode with each of the sizes once."""
    reference: Any = import_module("transformers.models.gemma4.image_processing_pil_gemma4")
    reference._SUPPORTED_SOFT_TOKENS = BUDGETS
    arrays: Arrays = {}
    cases: list[dict[str, Any]] = []
    for number, mode in enumerate(pictures.MODES * 2):
        size, budget = SIZES[(3 * number + number // 8) % len(SIZES)], BUDGETS[number % 4]
        image = pictures.picture(size, mode, seed=number)
        processor = reference.Gemma4ImageProcessorPil(max_soft_tokens=budget)
        found = processor(image, return_tensors="np")
        used = 9 * found["num_soft_tokens_per_image"][0]
        values = found["pixel_values"][0][:used]
        whole = np.round(values * 255).astype(np.uint8)
        if not np.array_equal((whole * (1 / 255)).astype(np.float32), values):
            raise SystemExit(f"case {number}: the values are no multiples of 1/255")
        arrays[f"{number}.image"] = pictures.stored(image)
        if mode in ("P", "PA"):
            arrays[f"{number}.palette"] = np.array(image.getpalette(), np.uint8)
        arrays[f"{number}.values"] = whole
        arrays[f"{number}.positions"] = found["image_position_ids"][0][:used].astype(np.uint8)
        cases.append({"mode": mode, "budget": budget, "size": size})
    arrays["cases"] = np.array(json.dumps(cases))
    arrays["versions"] = np.array(json.dumps({name: version(name) for name in LIBRARIES}))
    return arrays


if __name__ == "__main__":
    sys.exit(main())
