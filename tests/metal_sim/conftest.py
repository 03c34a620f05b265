"""Lets the tests here import the simulator and the helpers beside them."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
for helpers in (HERE, HERE.parent):
    if str(helpers) not in sys.path:
        sys.path.append(str(helpers))
