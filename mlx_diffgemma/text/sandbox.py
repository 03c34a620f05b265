"""Jinja's sandbox with limits: a template is foreign code, whose time and memory are bounded.

The sandbox keeps a template from the system, not from `"x" * 10 ** 12` or from loops inside loops.
Here each pass of a loop, each call and whatever makes a text or a list is charged to a meter: what
one operation would make is known before it runs, so that none runs long, and Ctrl-C and SIGTERM are
heard between two of them. The same template and messages always come to the same charge.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

BUDGET = 1 << 28  # characters that one rendering may make: a context of 262,144 positions is 1.3 MB
PASS = 1 << 10  # characters that a pass of a loop and a call count as
ITEM = 1 << 6  # that an item of a list counts as
MOST_BITS = 1 << 12  # of a whole number
MOST_SECONDS = 5.0

# Methods and filters whose result may be as long as one operand times another; all others make
# at most a few times what they are given.
GROWING_METHODS = {
    *("replace", "join", "center", "ljust", "rjust", "zfill", "expandtabs", "format"),
    *("format_map", "translate", "to_bytes"),
}
GROWING_FILTERS = {
    *("replace", "join", "center", "indent", "wordwrap", "format", "batch", "slice", "sum"),
    *("tojson", "truncate", "urlize"),
}
# Filters that look at a list and never at its text, which need not be measured.
PLAIN_FILTERS = {
    *("length", "count", "list", "map", "select", "selectattr", "reject", "rejectattr"),
    *("first", "last", "items", "dictsort", "default", "d", "sort", "unique", "groupby"),
    *("reverse", "min", "max", "attr"),
}
WIDTH = re.compile(r"\d+")


class TooMuchError(Exception):
    """A template that would take more memory or time than any prompt needs: more than what."""


class Meter:
    """The characters and the time that one rendering has left."""

    def __init__(self) -> None:
        self.left = BUDGET
        self.deadline = time.monotonic() + MOST_SECONDS

    def charge(self, count: int) -> None:
        """TooMuchError where `count` characters more are too many."""
        self.left -= count
        if self.left < 0:
            raise TooMuchError(f"more than {BUDGET:,} characters or {BUDGET // PASS:,} passes")

    def tick(self) -> bool:
        """One pass or call; true, so that a condition can have it in front."""
        self.charge(PASS)
        if time.monotonic() > self.deadline:
            raise TooMuchError(f"more than {MOST_SECONDS:.0f} s")
        return True

    def require(self, count: int) -> None:
        """TooMuchError where an operation might make `count` characters, and they are too many."""
        if count > self.left:
            self.charge(count)

    def made(self, result: object) -> None:
        """Charge for a text or a list that was made."""
        if isinstance(result, str | bytes):
            self.charge(len(result))
        elif isinstance(result, list | tuple | dict | set):
            self.charge(ITEM * len(result))

    def size(self, value: object) -> int:
        """Characters of a value as a text, about; each list in it counts as a pass."""
        total, looked = 0, [value]
        while looked:
            each = looked.pop()
            if isinstance(each, str | bytes):
                total += len(each)
                continue
            total += ITEM
            if isinstance(each, Namespace):
                each = object.__getattribute__(each, "_Namespace__attrs")
            if isinstance(each, Mapping):
                inside = [*each.keys(), *each.values()]
            elif isinstance(each, list | tuple | set | frozenset | range):
                inside = [*each]
            else:
                continue
            self.tick()
            looked += inside
            self.require(total + ITEM * len(looked))
        return total

    def grown(self, value: object, operands: Iterable[object], widths: int = 1) -> None:
        """TooMuchError where `value` times the largest operand, or width in it, is too much."""
        largest = max(widths, 1)
        for each in operands:
            inner = each if isinstance(each, tuple) else (each,)
            numbers = (abs(number) for number in inner if isinstance(number, int))
            largest = max(largest, self.size(each), *numbers)
        self.require(max(1, self.size(value)) * largest)


_meter: ContextVar[Meter] = ContextVar("meter")


@contextmanager
def metered() -> Iterator[None]:
    """One rendering, or the compilation of a template, with a meter of its own."""
    token = _meter.set(Meter())
    try:
        yield
    finally:
        _meter.reset(token)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of templates; to be used inside `metered` alone."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options: Any) -> None:
        # Constants are not computed at compile time, where nothing is charged.
        super().__init__(**options, finalize=_finalized, optimized=False)
        self.globals.pop("lipsum", None)  # loops of its own
        for name, call in self.filters.items():
            self.add_filter(name, call)

    def add_filter(self, name: str, call: Callable[..., Any]) -> None:
        """A filter under a name, charged for what it makes."""
        self.filters[name] = _charged(name, call)

    def _generate(self, source: nodes.Template, *more: Any, **options: Any) -> str:
        return super()._generate(_Metered().visit(source), *more, **options)

    def tick(self) -> bool:
        """One pass of a loop or call of a macro."""
        return _meter.get().tick()

    def joined(self, *parts: object) -> str:
        """The parts of `a ~ b` as one text."""
        return self.concat([part if isinstance(part, str) else _text(part) for part in parts])

    def concat(self, parts: Iterable[str]) -> str:
        """The parts of an output as one text."""
        meter, kept = _meter.get(), []
        for part in parts:
            meter.charge(len(part))
            kept.append(part)
        return "".join(kept)

    def call(self, context: Context, obj: Any, /, *args: Any, **options: Any) -> Any:
        """A call that a template makes."""
        owner = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)
        if owner is self:  # what is put into templates below
            return obj(*args)
        meter = _meter.get()
        meter.tick()
        name = getattr(obj, "__name__", "")
        if name in GROWING_METHODS:
            operands = [_listed(value) for value in (*args, *options.values())]
            widths = _width(owner) if name.startswith("format") else 1
            meter.grown(owner, operands, widths)
        result = super().call(context, obj, *args, **options)
        meter.made(result)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`left` + `right`, and the like."""
        meter = _meter.get()
        if isinstance(left, int) and isinstance(right, int):
            _require_bits(operator, left, right)
        elif operator == "+":
            meter.require(sum(len(v) for v in (left, right) if isinstance(v, str | list | tuple)))
        elif operator == "*":
            count, of = (left, right) if isinstance(left, int) else (right, left)
            if isinstance(of, str | bytes | list | tuple):
                meter.require(len(of) * abs(count) if isinstance(count, int) else 0)
        elif operator == "%":
            meter.grown(left, [right], _width(left))
        result = super().call_binop(context, operator, left, right)
        meter.made(result)
        return result


class _Metered(NodeTransformer):
    """A template with a tick in every loop and macro, and its concatenations charged."""

    def _ticking(self, node: Any) -> Any:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("tick"), lineno=node.lineno))
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's names
        self._ticking(node)
        if node.test is not None:  # asked for items that never reach the body
            node.test = nodes.And(_call("tick"), node.test, lineno=node.lineno)
        return node

    visit_Macro = visit_CallBlock = _ticking  # noqa: N815

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("joined", node.nodes)


def _call(name: str, arguments: Sequence[nodes.Expr] = ()) -> nodes.Call:
    """A call of the environment's own method."""
    method = nodes.EnvironmentAttribute(name)
    return nodes.Call(method, list(arguments), [], None, None, lineno=1)


def _charged(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is charged for what it makes."""
    at = 1 if hasattr(call, "jinja_pass_arg") else 0

    @wraps(call)
    def charged(*args: Any, **options: Any) -> Any:
        meter = _meter.get()
        meter.tick()
        value, *operands = (_listed(each) for each in args[at:])
        if name in GROWING_FILTERS:
            widths = _width(value) if name == "format" else 1
            items = [len(value)] if name == "sum" and isinstance(value, list | tuple) else []
            meter.grown(value, [*operands, *options.values(), *items], widths)
        elif name not in PLAIN_FILTERS:
            meter.require(meter.size(value))
        result = call(*args[:at], value, *operands, **options)
        meter.made(result)
        return result

    return charged


def _listed(value: Any) -> Any:
    """A list for what can be gone through once, each item charged: its length is to be known."""
    if not isinstance(value, Iterator):
        return value
    meter, items = _meter.get(), []
    for item in value:
        meter.charge(ITEM)
        items.append(item)
    return items


@pass_context
def _finalized(context: Context, value: Any) -> Any:
    """A value that is put out: its text is measured before it is made."""
    return value if isinstance(value, str) else _text(value)


def _text(value: object) -> str:
    meter = _meter.get()
    meter.require(meter.size(value))
    return str(value)


def _width(text: object) -> int:
    """The largest number in a text that formats: it may be a width."""
    if not isinstance(text, str):
        return 1
    return max((int(found[0][:18]) for found in WIDTH.finditer(text)), default=1)


def _require_bits(operator: str, left: int, right: int) -> None:
    bits = left.bit_length()
    if operator == "*":
        bits += right.bit_length()
    elif operator == "**":
        bits *= max(right, 1)
    if bits > MOST_BITS:
        raise TooMuchError(f"more than {MOST_BITS:,} bits in a whole number")
