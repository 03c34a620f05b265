"""What a network that knows nothing comes to under a form: a step, a commit, the next canvas."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_diffgemma.constrain.constraint import Constraint

PIECES = [
    *('{"', '":', '": "', '", "', '",', '"}', "},", "}}", "]}", "[]", "{}", '""', "\n", "\n  "),
    *("  ", " ", "true", "false", "null", "12", "00", ".5", "e+1", "-1", "a", "b b", "long"),
    *("_name", "name", "q\\", '\\"', "é", "rouge", "röd", "red", "T0", ":0", "-0", "20", "@x"),
    *(".de", "\\u00e", "\\n", "x\\\\y", "00:00", "```", "json"),
]
FILLER, STOP, OPENING, CLOSING = range(4)
TEXTS = [None] * 4 + [bytes((b,)) for b in range(256)] + [piece.encode() for piece in PIECES]


class Classes:
    """The ids of each class, for masses and best ids of whole rows."""

    def __init__(self, of: NDArray[np.int32], num_classes: int) -> None:
        self.of, self.num_classes = of, num_classes
        self.order = np.argsort(of, kind="stable")
        self.present, self.begins = np.unique(of[self.order], return_index=True)

    def read(self, z: NDArray[np.float64]) -> tuple[Any, Any, Any]:
        """Logits [L, V] -> log masses, largest logits and their ids [L, K]."""
        shape = len(z), self.num_classes
        logs, score = np.full(shape, -np.inf), np.full(shape, -np.inf, np.float32)
        token = np.zeros(shape, np.int32)
        ordered = z[:, self.order]
        mass = np.exp(ordered - z.max(axis=1, keepdims=True))
        sums = np.add.reduceat(mass, self.begins, axis=1)
        with np.errstate(divide="ignore"):
            logs[:, self.present] = np.log(sums / sums.sum(axis=1, keepdims=True))
        ends = [*self.begins[1:].tolist(), len(self.order)]
        for label, first, last in zip(self.present, self.begins, ends, strict=True):
            at = ordered[:, first:last].argmax(axis=1)
            score[:, label] = ordered[np.arange(len(z)), first + at]
            token[:, label] = self.order[first + at]
        return logs, score, token


def answered(rule: Constraint, logits: Callable[[], NDArray[np.float64]]) -> list[int]:
    """The tokens of one answer on the logits [L, V] of each canvas, up to where it ends."""
    classes, tokens = Classes(rule.classes, rule.num_classes), list[int]()
    while rule.left > 0 and not rule.ended:
        logs, score, token = classes.read(logits())
        bias, strain = rule.bias(logs)
        left = min(rule.left, len(logs))
        total = (np.exp(logs) * np.exp(bias.astype(np.float64))).sum(axis=1)
        np.testing.assert_allclose(total[:left], 1, atol=1e-4)
        assert strain >= 0
        tokens += rule.commit(logs, score, token)[:left].tolist()
    return tokens


def written(tokens: list[int], texts: Any = TEXTS) -> str:
    """The text up to the end, without a thought."""
    text = tokens[: tokens.index(STOP)]
    text = text[text.index(CLOSING) + 1 :] if CLOSING in text else text
    return b"".join(texts[t] for t in text).decode()
