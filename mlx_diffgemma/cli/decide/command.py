"""`decide`: a state and questions in, answers with probabilities out."""

from dataclasses import replace

import typer

from .. import options as shared
from ..parameters import flattened
from ..terminal.passing import LOADING_PROGRAM, Announced
from . import options


@flattened(without=("video",), last=("dtype", "offline", "force", "no_tune", "gentle"))
def command(
    ctx: typer.Context,
    given: options.StateOptions,
    asked: options.QuestionOptions,
    seen: shared.MediaOptions,
    settings: options.SettingOptions,
    answer: options.AnswerOptions,
    model: shared.ModelOptions,
) -> int:
    """Answer typed questions about a state, each with the probabilities of all its answers.

    --noul is answered by yes or no, --choice by one of several names, --score by a place on a
    scale. Nothing is written: one pass over a short canvas reads how likely each answer is.
    """
    with Announced(LOADING_PROGRAM):
        from ...decide.calibration import read_calibration
        from ..answer.media import read_media
        from ..answer.prompt import given_words, read_text
        from ..answer.unread import unread_input_said
        from .given import STATE, read_given, require_one_state
        from .work import Job, answer_lines, answer_one

    answer.check(several=given.lines is not None)
    shared.require_one_stdin(
        **{"STATE": given.state, "--state-file": given.state_file, "--lines": given.lines},
        **{"-q": asked.questions, "--image": "-" if seen.takes_stdin else None},
    )
    typed, body = settings.values(), read_given(asked)
    words = given_words(given.state, *ctx.args)
    require_one_state(body, words, given)
    calibration = None if answer.calibration is None else read_calibration(answer.calibration)
    media, ids = read_media(seen, model.name), asked.ids
    job = Job(model, body, ids, typed, media, answer, calibration)
    job.check()
    if given.lines is not None:
        return answer_lines(job, given.lines)
    if "state" in body:
        return answer_one(job, body["state"])
    taken = seen.takes_stdin or asked.takes_stdin
    wanted = replace(STATE, optional=seen.given, stdin_taken=taken)
    state, _ = read_text(words, given.state_file, wanted)
    with unread_input_said(words, given.state_file, wanted):
        return answer_one(job, state)
