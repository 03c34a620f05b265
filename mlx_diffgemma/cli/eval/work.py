"""The work of `eval`: a model loaded, its answers compared, and what came of it printed."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...checkpoint.config import ModelConfig, read_config
from ...checkpoint.hub import known_folder
from ...errors import counted
from ...finetune.evaluation.cases import Case, read_cases
from ...finetune.evaluation.evaluate import Evaluation, Outcome, Scores, Way, let_numpy_compute
from ...kernels import dispatch
from ...machine.files import parse_json
from ...version import __version__
from ..answer.loading import load_session
from ..errors import exit_code
from ..options import ModelOptions
from ..record.outfile import Kind, OutFile
from ..terminal.output import show
from ..terminal.progress import Bar
from ..terminal.signals import raise_lost, signals_held
from ..terminal.streams import say
from .options import CaseOptions
from .text import lines

LONGEST_LINE = 1 << 24  # bytes of an answer


def _is_answers(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            line = parse_json(content.readline(LONGEST_LINE))
    except (OSError, ValueError):
        return False
    return isinstance(line, dict) and {"line", "expected", "answer", "correct"} <= line.keys()


ANSWERS = Kind("file of answers", _is_answers)


@dataclass(frozen=True)
class Job:
    """An evaluation to make."""

    model: ModelOptions
    cases: CaseOptions
    ways: Sequence[Way]
    seeds: int

    @property
    def metric(self) -> str:
        """The metric of lines that name none."""
        return self.cases.metric or "exact"

    def read(self, config: ModelConfig) -> list[Case]:
        """The cases for a checkpoint."""
        given = self.cases
        return read_cases(given.file, config, metric=self.metric, limit=given.limit)


@dataclass
class Run:
    """An evaluation on its way; kernels: what computes."""

    job: Job
    evaluation: Evaluation
    kernels: str
    scores: Scores
    began: float

    @property
    def complete(self) -> bool:
        """True where every answer is in."""
        return self.scores.whole.n == self.evaluation.total

    def to_json(self) -> dict[str, Any]:
        """The object of `eval --json`."""
        job, session = self.job, self.evaluation.session
        return {
            "model": asdict(session.info),
            "adapter": session.adapter,
            "data": str(job.cases.file),
            "metric": job.metric,
            "cases": len(self.evaluation.cases),
            "seeds": job.seeds,
            "complete": self.complete,
            "results": [
                {
                    "steps": way.steps,
                    "mode": way.mode,
                    "skill": skill,
                    "n": tally.n,
                    "correct": tally.correct,
                    "cases": len(tally.cases),
                    "accuracy": tally.accuracy,
                    "interval": list(tally.interval),
                    "mean_steps": tally.mean_steps,
                    "tokens_per_step": tally.tokens_per_step,
                    "seconds": tally.seconds,
                }
                for way, skill, tally in self.scores.rows()
            ],
            "seconds": time.perf_counter() - self.began,
            "kernels": self.kernels,
            "version": __version__,
        }


def evaluate(job: Job, out: OutFile | None, *, as_json: bool) -> int:
    """The whole evaluation, or after an interrupt or an error the answers that are finished."""
    run = _prepared(job)
    try:
        _answers(run, out)
    except (KeyboardInterrupt, Exception) as error:
        _hand_over(run, out, as_json=as_json)
        if not isinstance(error, KeyboardInterrupt):
            raise
        done = run.scores.whole.n
        say(f"interrupted: {done:,} of {counted(run.evaluation.total, 'answer')} finished.")
        return exit_code(error)
    _hand_over(run, out, as_json=as_json)
    return 0


def _prepared(job: Job) -> Run:
    """The model loaded and every prompt checked; cases and mode before that, where they can be."""
    folder = known_folder(job.model.name)
    cases = None if folder is None else job.read(read_config(folder))
    hardest = next((way for way in job.ways if way.mode != "diffusion"), job.ways[0])
    session = load_session(job.model, hardest.settings)
    if cases is None:
        cases = job.read(session.model.config)
    kernels = "metal" if dispatch.running() else "ops"
    if let_numpy_compute(session):
        kernels = "numpy"
    ways = [way.told(session.model.config) for way in job.ways]
    evaluation = Evaluation(session, cases, ways, job.seeds, job.cases.think, job.cases.system)
    return Run(job, evaluation, kernels, Scores(ways), time.perf_counter())


def _answers(run: Run, out: OutFile | None) -> None:
    with Bar("answering", timed=True) as bar:
        total = run.evaluation.total
        bar(0, total)
        for done, outcome in enumerate(run.evaluation, 1):
            with signals_held():  # counted and written, or neither
                if out:
                    out.write_line(answer_line(outcome))
                run.scores.add(outcome)
            bar.label = f"{run.scores.accuracy:.0%} right"
            bar(done, total)
            raise_lost()


def answer_line(outcome: Outcome) -> dict[str, Any]:
    """An answer as a line of --out."""
    case, reply = outcome.case, outcome.reply
    return {
        "line": case.line.number,
        "skill": case.skill,
        "mode": outcome.way.mode,
        "steps": outcome.way.steps,
        "seed": outcome.seed,
        "metric": case.metric,
        "expected": case.expected,
        "answer": outcome.text,
        "correct": outcome.correct,
        "thinking": reply.thinking,
        "tool_calls": [asdict(call) for call in reply.tool_calls],
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "generated_tokens": reply.generated_tokens,
        "canvas_steps": list(reply.steps),
        "seconds": reply.seconds.total,
    }


def _hand_over(run: Run, out: OutFile | None, *, as_json: bool) -> None:
    """The table or the object of the finished answers, and their file; nothing without any."""
    if not run.scores.tallies:
        return
    if out:
        out.finish()
        if out.is_stdout:
            return
    show(run.to_json(), lines(run.scores, len(run.evaluation.cases)), as_json)
