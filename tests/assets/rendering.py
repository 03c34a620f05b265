"""scripts/render_sudokus.py as a module."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def renderer() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "render_sudokus.py"
    spec = importlib.util.spec_from_file_location("render_sudokus", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module
