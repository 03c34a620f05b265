"""A simulated kernel, and the record of what it did."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx

from .buffers import Buffer, input_buffers, output_array, output_buffer
from .capture import generated_text
from .compiler import Sanitizer
from .errors import SimError
from .lower import kernel_of, lowered, without_comments
from .run import Dispatch, Schedule, Size, run

Template = Sequence[tuple[str, Any]]
Mutation = Callable[[str], str]


@dataclass(frozen=True)
class Launch:
    """One dispatch that was run.

    input_bytes, output_bytes: of the arrays; copied_bytes: of the inputs that MLX would copy
    because they are not contiguous. threadgroup_bytes: the memory of one threadgroup. barriers
    counts threadgroup_barrier, once a threadgroup; collectives counts simdgroup operations and
    simdgroup_barrier, once a simdgroup; matrix_products, simdgroup_multiply and its like alone, and
    simdgroup_products those of the simdgroup with most. device_loads: loads from device memory by
    all threads, and lane_loads by the one with most, None where they were not counted. text: the
    Metal text that MLX generated, mutated or not.
    """

    name: str
    template: tuple[tuple[str, Any], ...]
    grid: Size
    threadgroup: Size
    threadgroups: int
    barriers: int
    collectives: int
    matrix_products: int
    simdgroup_products: int
    device_loads: int | None
    lane_loads: int | None
    threadgroup_bytes: int
    input_bytes: int
    output_bytes: int
    copied_bytes: int
    text: str = field(repr=False)


@dataclass
class Simulation:
    """What `simulated` yields: how kernels run, and what ran."""

    schedule: Schedule
    sanitizer: Sanitizer | None
    mutate: Mutation | None
    launches: list[Launch] = field(default_factory=list)

    def of(self, name: str) -> list[Launch]:
        """The launches of the kernel `name`."""
        return [launch for launch in self.launches if launch.name == name]


@dataclass(frozen=True)
class SimulatedKernel:
    """In place of the object that mx.fast.metal_kernel returns, and called as that is."""

    name: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    contiguous: bool
    built: Any
    simulation: Simulation

    def __call__(
        self,
        *,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: Size,
        threadgroup: Size,
        template: Template | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: Any = None,
    ) -> list[mx.array]:
        arrays = [x if isinstance(x, mx.array) else mx.array(x) for x in inputs]
        results = list(zip(output_shapes, output_dtypes, strict=True))
        text = generated_text(
            self.built,
            arrays,
            grid=grid,
            threadgroup=threadgroup,
            output_shapes=output_shapes,
            output_dtypes=output_dtypes,
            **({"template": template} if template else {}),
        )
        if verbose:
            print(text)
        given = [
            buffer
            for name, array in zip(self.input_names, arrays, strict=True)
            for buffer in input_buffers(name, array, contiguous=self.contiguous)
        ]
        made = [
            output_buffer(name, shape, dtype, init_value)
            for name, (shape, dtype) in zip(self.output_names, results, strict=True)
        ]
        self._launch(text, given, made, tuple(template or ()), grid, threadgroup)
        return [
            output_array(buffer, shape, dtype)
            for buffer, (shape, dtype) in zip(made, results, strict=True)
        ]

    def _launch(
        self,
        text: str,
        given: Sequence[Buffer],
        made: Sequence[Buffer],
        template: tuple[tuple[str, Any], ...],
        grid: Size,
        threadgroup: Size,
    ) -> None:
        """Runs the text on these buffers and records it."""
        text = self.simulation.mutate(text) if self.simulation.mutate else text
        buffers = {buffer.name: buffer for buffer in [*given, *made]}
        dispatch = self._run(text, buffers, grid, threadgroup)
        inputs = [buffer for buffer in given if buffer.name in self.input_names]
        counted = self.simulation.schedule.count_loads
        self.simulation.launches.append(
            Launch(
                name=self.name,
                template=template,
                grid=grid,
                threadgroup=threadgroup,
                threadgroups=dispatch.threadgroups,
                barriers=dispatch.barriers,
                collectives=dispatch.collectives,
                matrix_products=dispatch.matrix_products,
                simdgroup_products=dispatch.simdgroup_products,
                device_loads=dispatch.device_loads if counted else None,
                lane_loads=dispatch.lane_loads if counted else None,
                threadgroup_bytes=dispatch.shared_bytes,
                input_bytes=sum(buffer.values.nbytes for buffer in inputs),
                output_bytes=sum(buffer.values.nbytes for buffer in made),
                copied_bytes=sum(buffer.copied_bytes for buffer in inputs),
                text=text,
            )
        )

    def _run(
        self, text: str, buffers: dict[str, Buffer], grid: Size, threadgroup: Size
    ) -> Dispatch:
        """Lowers, compiles and runs the text; a SimError says which kernel's."""
        schedule, sanitizer = self.simulation.schedule, self.simulation.sanitizer
        try:
            wanted = [
                replace(buffers[parameter.name], in_device=parameter.in_device)
                for parameter in kernel_of(without_comments(text)).buffers
            ]
            code = lowered(text, self.name)
            return run(code, wanted, grid, threadgroup, schedule, sanitizer)
        except SimError as error:
            raise SimError(explained(str(error), self.name, text)) from None


def explained(message: str, name: str, text: str) -> str:
    """A message with the kernel's name in front and, where it names a line, that line's text."""
    lines = text.splitlines()
    numbers = sorted({int(n) for n in re.findall(rf"\b{name}:(\d+)", message)})
    quoted = [
        f"\n  {name}:{number}: {lines[number - 1].strip()}"
        for number in numbers
        if number <= len(lines)
    ]
    return f"{name}: {message}" + "".join(quoted)
