"""`decide`: a state and questions in, answers with probabilities out."""

import typer

from .. import options as shared
from ..errors import ArgumentError
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
        from ..answer.prompt import RequiredText, given_words, read_text
        from .given import read_given
        from .work import Job, answer_lines, answer_one

    answer.check(several=given.lines is not None)
    options.require_one_stdin(
        **{"STATE": given.state, "--state-file": given.state_file, "--lines": given.lines},
        **{"-q": asked.questions},
    )
    typed = settings.values()
    body = read_given(asked)
    calibration = None if answer.calibration is None else read_calibration(answer.calibration)
    job = Job(model, body, typed, read_media(seen, model.name), answer, calibration)
    job.check()
    if given.lines is not None:
        if given.state is not None or given.state_file is not None or "state" in body:
            raise ArgumentError("--lines and another state are both given; leave one of them out.")
        return answer_lines(job, given.lines)
    words = given_words(given.state, *ctx.args)
    text = RequiredText(
        *("state", "STATE", "--state-file"),
        '`mlx-diffgemma decide "It is down again." --noul "urgent=Reply today?"`',
        optional=seen.given,
        stdin_taken=seen.takes_stdin or asked.takes_stdin,
    )
    if "state" in body:
        if words or given.state_file is not None:
            raise ArgumentError(
                f"{asked.questions} has a state, and another one is given; leave one of them out."
            )
        state = body["state"]
    else:
        state, _ = read_text(words, given.state_file, text)
    return answer_one(job, state)
