"""`decide`: a state and questions in, answers with probabilities out."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import typer

from .. import options as common
from ..macs.options import ShareOptions, started
from ..parameters import flattened
from ..terminal.passing import LOADING_PROGRAM, Announced
from . import options

if TYPE_CHECKING:
    from ..answer.prompt import RequiredText
    from .work import Job


@flattened(without=("video",), last=("dtype", "offline", "force", "no_tune", "gentle"))
def command(
    ctx: typer.Context,
    given: options.StateOptions,
    asked: options.QuestionOptions,
    seen: common.MediaOptions,
    settings: options.SettingOptions,
    answer: options.AnswerOptions,
    model: common.ModelOptions,
    shared: ShareOptions,
) -> int:
    """Answer typed questions about a state, each with the probabilities of all its answers.

    --noul is answered by yes or no, --choice by one of several names, --score by a place on a
    scale. Nothing is written: one pass over a short canvas reads how likely each answer is.
    """
    with Announced(LOADING_PROGRAM):
        from ...decide.calibration import read_calibration
        from ..answer.media import read_media
        from ..answer.prompt import STDIN, given_words
        from ..answer.unread import without_stdin
        from ..macs.group import joined
        from ..macs.launch import launch
        from .given import STATE, read_given, require_one_state
        from .work import Job, Loading

    answer.check(several=given.lines is not None)
    common.require_one_stdin(
        **{"STATE": given.state, "--state-file": given.state_file, "--lines": given.lines},
        **{"-q": asked.questions, "--image": "-" if seen.takes_stdin else None},
    )
    typed = settings.values()
    words = given_words(given.state, *ctx.args)
    taken = seen.takes_stdin or asked.takes_stdin
    shared.require_no_stdin(taken or given.takes_stdin or STDIN in words)
    if shared.launches:
        if answer.calibration is not None:  # each rank would say what is wrong with it
            read_calibration(answer.calibration)
        return launch(shared, started(ctx))
    with joined(shared) as group:
        body = group.of_rank_0(lambda: read_given(asked))
        with group.agreeing():
            require_one_state(body, words, given)
            wanted = replace(STATE, optional=seen.given, stdin_taken=taken)
            if given.lines is None and "state" not in body:
                wanted = without_stdin(shared, words, given.state_file, wanted)
        calibration = None if answer.calibration is None else read_calibration(answer.calibration)
        loading = Loading(group, model, partial(read_media, seen, model.name))
        job = Job(loading, body, asked.ids, typed, answer, calibration)
        with group.agreeing():
            return group.code(_answered(job, given, words, wanted))


def _answered(
    job: "Job", given: options.StateOptions, words: list[str], wanted: "RequiredText"
) -> int:
    """The exit code of the answers about every line of a file, or about one state."""
    from ..answer.prompt import read_text
    from ..answer.unread import unread_input_said
    from .work import answer_lines, answer_one, lines_of

    job.check()
    read = job.loading.group.of_rank_0
    if (file := given.lines) is not None:
        return answer_lines(job, read(lambda: lines_of(file)))
    if "state" in job.body:
        return answer_one(job, job.body["state"])
    state, _ = read(lambda: read_text(words, given.state_file, wanted))
    with unread_input_said(words, given.state_file, wanted):
        return answer_one(job, state)
