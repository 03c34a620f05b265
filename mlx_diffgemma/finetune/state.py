"""Saved states of a training run, each a folder that is there whole or not at all.

OUT/run.json says which run it is, OUT/states/000040 holds what the run needs to go on after step
40 and the weights for use, OUT/metrics.jsonl a line for each step.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..convert.hashing import hash_file
from ..convert.write import write_arrays
from ..errors import Setting, TrainingError, brief, counted, one_line
from ..machine.files import WholeFolder, json_bytes, parse_json, read_json, replace_file
from ..machine.locks import locked
from .parameters import Values

RUN, STATES, METRICS = "run.json", "states", "metrics.jsonl"
STATE, ARRAYS = "state.json", "training.safetensors"
KEPT = 2  # states beside the best one
MOST_NAMED = 3  # of the differences from a run that is to be resumed

BROKEN = OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError

Identity = Mapping[str, Any]
"""What two runs have alike where one continues the other: model, data, recipe, trained modules."""

Writer = Callable[[Path, Values], None]
"""Writes the weights for use, an adapter or a checkpoint, into a folder."""


@dataclass(frozen=True)
class State:
    """A run after `step` steps; nothing else decides how it goes on.

    score: of the best state so far, lower is better; lowest: the lowest loss of a step; valid: the
    last one on other examples.
    """

    step: int
    values: Values
    moments: Values
    average: Values = field(default_factory=dict)
    best_step: int | None = None
    score: float | None = None
    lowest: float | None = None
    valid: float | None = None

    @property
    def result(self) -> Values:
        """The weights for use: the averaged ones where there are any."""
        return self.average or self.values

    @property
    def arrays(self) -> dict[str, mx.array]:
        """Every array, by name."""
        parts = {"values": self.values, "moments": self.moments, "average": self.average}
        return {
            f"{part}/{n}": array for part, arrays in parts.items() for n, array in arrays.items()
        }

    @property
    def numbers(self) -> dict[str, Any]:
        """All but the arrays."""
        names = "step", "best_step", "score", "lowest", "valid"
        return {name: getattr(self, name) for name in names}

    def with_arrays(self, arrays: Values) -> "State":
        """The same with other arrays, by the names of `arrays`, in the order of their names.

        A file has an order of its own, and sums over all arrays depend on it in the last bit.
        """
        parts: dict[str, dict[str, mx.array]] = {"values": {}, "moments": {}, "average": {}}
        for key, array in sorted(arrays.items()):
            part, _, name = key.partition("/")
            parts[part][name] = array
        return replace(self, **parts)  # type: ignore[arg-type]


@dataclass
class Keeper:
    """The folder OUT of a run, locked for this process.

    write: what makes the weights usable; without it a state can be resumed, and no more.
    """

    out: Path
    identity: Identity = field(default_factory=dict)
    write: Writer | None = None
    notes: list[str] = field(default_factory=list)
    lock: int = -1

    def require_free(self, *, resume: bool = False, overwrite: bool = False) -> bool:
        """True where there is a run to go on with; nothing is written.

        TrainingError for a folder that is another's, or holds a run that is not to be replaced.
        """
        there = (self.out / RUN).is_file()
        if self.out.exists() and not there:
            self._refuse_foreign()
        if there and not resume and not overwrite:
            raise TrainingError(
                f"{self.out} holds a training run; go on with it by --resume, replace it by "
                "--overwrite, or take another name."
            )
        return there and resume

    def check(self, *, resume: bool = False, overwrite: bool = False) -> bool:
        """As `require_free`; TrainingError also where it is another run that is to be resumed."""
        if continued := self.require_free(resume=resume, overwrite=overwrite):
            self._require_same(_run(self.out / RUN))
        return continued

    def open(self, *, resume: bool = False, overwrite: bool = False) -> State | None:
        """Make the folder; the state to go on from, None for a run that begins.

        Errors are those of `check`. `notes` says what was found.
        """
        if self.check(resume=resume, overwrite=overwrite):
            self._lock()
            return self._resumed()
        self._lock()
        if resume:
            self.notes.append(f"{self.out} holds no training run to resume: a new one begins.")
        self._begin()
        return None

    def save(self, state: State) -> Path:
        """Write a state; TrainingError, with the states before it kept, where the disk is full."""
        place = self._place(state.step)
        try:
            with WholeFolder(place) as folder:
                self._fill(folder.part, state)
                folder.finish()
        except OSError as error:
            raise self._failed(error) from error
        self._prune(state)
        return place

    def finish(self, state: State) -> None:
        """Put the weights for use into OUT itself."""
        if self.write is None:
            return
        try:
            self.write(self.out, state.result)
        except OSError as error:
            raise self._failed(error) from error

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a step's numbers to OUT/metrics.jsonl."""
        try:
            with (self.out / METRICS).open("ab") as stream:
                stream.write(json_bytes(line))
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Let another process have the folder."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def steps(self) -> list[int]:
        """The steps that have a saved state, in order."""
        names = (each.name for each in _folders(self.out / STATES))
        return sorted(int(name) for name in names if name.isdecimal())

    def last(self) -> str:
        """The last saved state, for a message."""
        if steps := self.steps():
            return f"the state of step {steps[-1]:,} is kept in {self._place(steps[-1])}"
        return "no state was saved yet"

    def _place(self, step: int) -> Path:
        return self.out / STATES / f"{step:06}"

    def _fill(self, folder: Path, state: State) -> None:
        write_arrays(folder / ARRAYS, state.arrays)
        if self.write is not None:
            self.write(folder, state.result)
        files = {file.name: vars(hash_file(file)) for file in sorted(folder.iterdir())}
        replace_file(folder / STATE, json_bytes({**state.numbers, "files": files}, indent=2))

    def _prune(self, state: State) -> None:
        """Remove all but the last states and the best; what is on the disk needs no other."""
        for step in self.steps()[:-KEPT]:
            if step != state.best_step:
                shutil.rmtree(self._place(step), ignore_errors=True)

    def _lock(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self.lock = os.open(self.out, os.O_RDONLY)
            free = locked(self.lock)
        except OSError as error:
            raise self._failed(error) from error
        if not free:
            self.close()
            raise TrainingError(
                f"{self.out} is in the hands of another process; wait for it, or take another name."
            )

    def _begin(self) -> None:
        """Take away what an earlier run left, its weights for use too, and say which run this is.

        OUT/run.json is replaced last: until then the folder is still the earlier run's.
        """
        states = list(_folders(self.out / STATES))
        written = {file.name for folder in states for file in folder.iterdir()} - {STATE, ARRAYS}
        try:
            for name in (METRICS, STATES, *written):
                _remove(self.out / name)
            replace_file(self.out / RUN, json_bytes(dict(self.identity), indent=2))
        except OSError as error:
            raise self._failed(error) from error

    def _resumed(self) -> State | None:
        for part in _folders(self.out / STATES):
            if part.name.startswith("."):
                shutil.rmtree(part, ignore_errors=True)
        for step in reversed(self.steps()):
            try:
                state = _read(self._place(step))
            except BROKEN as error:
                said = one_line(error)
                self.notes.append(f"the state of step {step:,} is broken ({said}): left out.")
                continue
            self._cut_metrics(state.step)
            self.notes.append(f"going on after step {state.step:,}.")
            return state
        self.notes.append(f"{self.out} has no whole state to resume: the run begins again.")
        self._begin()
        return None

    def _cut_metrics(self, step: int) -> None:
        """Drop the lines of steps that will be trained again, and half a line."""
        file = self.out / METRICS
        if file.is_file():
            lines = [line for line in file.read_bytes().splitlines() if _step_of(line) <= step]
            replace_file(file, b"".join(line + b"\n" for line in lines))

    def _require_same(self, before: Identity) -> None:
        """TrainingError naming what differs from the run that is to be resumed."""
        now = parse_json(json_bytes(dict(self.identity)))
        differing = [
            key for key in dict.fromkeys((*before, *now)) if before.get(key) != now.get(key)
        ]
        if not differing:
            return
        said: list[str] = []
        for key in differing[:MOST_NAMED]:
            was, new = brief(before.get(key)), brief(now.get(key))
            said += [Setting(key), f" was {was} and is {new}, "]
        more = len(differing) - MOST_NAMED
        raise TrainingError(
            f"{self.out} is of another run: ",
            *said,
            f"{counted(more, 'more difference')}; " if more > 0 else "",
            "resume with what it began with, or take another --out.",
        )

    def _refuse_foreign(self) -> None:
        if not self.out.is_dir():
            raise TrainingError(f"{self.out} is a file, expected the name of a new folder.")
        if any(self.out.iterdir()):
            raise TrainingError(
                f"{self.out} is no folder of a training run, and is left alone; take another name."
            )

    def _failed(self, error: OSError) -> TrainingError:
        place, said = error.filename or self.out, error.strerror or str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room" if full else "mend that"
        return TrainingError(f"{place}: {said}; {self.last()}; {remedy}, then go on by --resume.")


def _run(file: Path) -> Identity:
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{file}: {error}; replace the run by --overwrite.") from error
    if not isinstance(content, dict):
        raise TrainingError(f"{file}: no JSON object; replace the run by --overwrite.")
    return content


def _read(folder: Path) -> State:
    """The state in a folder; any error for one that is broken."""
    content = read_json(folder / STATE)
    for name, record in content.pop("files").items():
        if vars(hash_file(folder / name)) != record:
            raise ValueError(f"{name} is not what was written")
    if content["step"] != int(folder.name):
        raise ValueError(f"{STATE} is of step {brief(content['step'])}")
    arrays = mx.load(str(folder / ARRAYS))
    assert isinstance(arrays, dict)
    mx.eval(arrays)  # before the folder is removed
    return State(values={}, moments={}, **content).with_arrays(arrays)


def _step_of(line: bytes) -> float:
    try:
        return float(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _folders(place: Path) -> Iterator[Path]:
    return (each for each in (place.iterdir() if place.is_dir() else ()) if each.is_dir())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
