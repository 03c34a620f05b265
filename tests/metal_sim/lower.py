"""From the Metal text that MLX generates to C++ text with a function that runs one thread.

Two things are rewritten, nothing else: threadgroup variables, which need storage that threads
share, and the line that instantiates the template. Lines keep their numbers.
"""

import re
from dataclasses import dataclass
from itertools import count
from operator import itemgetter

from .errors import SimError

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
SIGNATURE = re.compile(r"\[\[kernel\]\]\s+void\s+(\w+)\s*\(")
ATTRIBUTE = re.compile(r"\s*\[\[(\w+)(?:\((\d+)\))?\]\]\s*$")
INSTANTIATION = re.compile(
    r'template\s*\[\[host_name\("[^"]*"\)\]\]\s*\[\[kernel\]\]\s*decltype\((.+?)\)\s*[^;]+;',
    re.DOTALL,
)
VARIABLE = re.compile(
    r"\bthreadgroup\s+((?:alignas\([^)]*\)\s*)?[\w:]+(?:\s*<[^;{}()]*?>)?)"  # the type
    r"\s+(\w+\s*(?:\[[^;=]*?\]\s*)*(?:,\s*\w+\s*(?:\[[^;=]*?\]\s*)*)*);"  # the names
)
DECLARATOR = re.compile(r"(\w+)\s*(.*)", re.DOTALL)
INITIALISED = re.compile(
    r"\bthreadgroup\s+[\w:]+(?:\s*<[^;{}()]*?>)?\s+\w+\s*(?:\[[^;]*\]\s*)?[={]"
)


@dataclass(frozen=True)
class Parameter:
    """A parameter of the kernel: a buffer, or an attribute such as thread_position_in_grid."""

    type: str
    name: str
    attribute: str
    buffer: int | None

    @property
    def in_device(self) -> bool:
        """Whether it is a buffer in device memory; MLX makes short inputs `constant`."""
        return bool(re.search(r"\bdevice\b", self.type))

    @property
    def argument(self) -> str:
        """The C++ expression for its value."""
        if self.buffer is None:
            return (
                f"metal_sim::Parameter<{self.type}>::from(metal_sim::attribute_{self.attribute}())"
            )
        pointer = self.type.rstrip("*& ") + "*"
        dereference = "*" if self.type.endswith("&") else ""
        return f"{dereference}({pointer})buffers[{self.buffer}]"


@dataclass(frozen=True)
class Kernel:
    """The kernel that a text defines."""

    instance: str
    parameters: tuple[Parameter, ...]

    @property
    def buffers(self) -> list[Parameter]:
        """Its buffers, in order."""
        found = [(p.buffer, p) for p in self.parameters if p.buffer is not None]
        return [parameter for _, parameter in sorted(found, key=itemgetter(0))]


def without_comments(text: str) -> str:
    """The text with comments blanked and every line where it was."""
    return COMMENT.sub(lambda found: "\n" * found.group().count("\n"), text)


def kernel_of(text: str) -> Kernel:
    """The kernel's parameters and its instantiation."""
    signature = SIGNATURE.search(text)
    if not signature:
        raise SimError("The generated text has no `[[kernel]] void`: MLX generates it otherwise.")
    end = closing(text, signature.end() - 1)
    parameters = tuple(_parameter(part) for part in split(text[signature.end() : end]))
    instance = INSTANTIATION.search(text)
    return Kernel(instance.group(1) if instance else signature.group(1), parameters)


def _parameter(text: str) -> Parameter:
    attribute = ATTRIBUTE.search(text)
    if not attribute:
        raise SimError(f"Parameter `{text}` of the generated kernel has no attribute.")
    declaration = text[: attribute.start()]
    kind, name, _ = re.split(r"(\w+)$", declaration)
    buffer = None if attribute.group(2) is None else int(attribute.group(2))
    return Parameter(kind.strip(), name, attribute.group(1), buffer)


def lowered(text: str, name: str) -> str:
    """C++ that defines metal_sim_connect and metal_sim_kernel for the kernel of `text`."""
    text = without_comments(text)
    kernel = kernel_of(text)
    arguments = ", ".join(parameter.argument for parameter in kernel.parameters)
    body = INSTANTIATION.sub("", with_shared_variables(text, name))
    return f"""#include <metal_stdlib>
#include "mlx/backend/metal/kernels/utils.h"
#line 1 "{name}"
{body}
#line 1 "launcher"
extern "C" void metal_sim_connect(metal_sim::Runtime* runtime) {{ metal_sim::runtime = runtime; }}
extern "C" void metal_sim_kernel(void** buffers) {{
  (void)buffers;
  {kernel.instance}({arguments});
}}
"""


def with_shared_variables(text: str, name: str) -> str:
    """Threadgroup variables as references to storage that the threads of a threadgroup share."""
    refuse_unsupported(text, name)
    numbers = count()

    def shared(found: re.Match[str]) -> str:
        names = [DECLARATOR.match(part) for part in split(found.group(2))]
        return " ".join(
            f"typedef {found.group(1)} {name[1]}_shared{name[2]}; "
            f"{name[1]}_shared& {name[1]} = metal_sim::shared<{name[1]}_shared, {next(numbers)}>();"
            for name in names
            if name
        )

    return VARIABLE.sub(shared, text)


def refuse_unsupported(text: str, name: str) -> None:
    """SimError for threadgroup variables that Metal does not have."""
    signature = SIGNATURE.search(text)
    start = signature.start() if signature else 0
    for found in VARIABLE.finditer(text):
        if found.start() < start:
            line = line_of(text, found.start())
            raise SimError(f"{name}:{line}: threadgroup variables belong into the kernel itself.")
    if initialised := INITIALISED.search(text):
        line = line_of(text, initialised.start())
        raise SimError(f"{name}:{line}: a threadgroup variable cannot be initialised.")


def line_of(text: str, position: int) -> int:
    """The number of the line, from 1, that `position` is in."""
    return text.count("\n", 0, position) + 1


def closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i
    raise SimError(f"`{text[start : start + 40]}`: a bracket is never closed.")


def split(text: str) -> list[str]:
    """The parts between commas that stand in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "(<[{") - (character in ")>]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
