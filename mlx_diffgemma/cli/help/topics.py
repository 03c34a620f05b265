"""The topics of `help`, each of one screen. Numbers are those of the code, where it has them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .page import Block

ENTER = "Option-Enter" if sys.platform == "darwin" else "Alt-Enter"


@dataclass(frozen=True)
class Topic:
    """A line for the list of topics, and the page."""

    about: str
    blocks: Callable[[], Sequence[Block]]


def _sampling() -> Sequence[Block]:
    from ...checkpoint.generation import SamplerDefaults, TokenDefaults

    canvas, token = SamplerDefaults(), TokenDefaults()
    return (
        "A canvas begins as random tokens. Each denoising step looks at all of its positions, "
        "accepts the most certain draws and makes the others random again. When no token changes "
        "any more, and all are certain, the canvas becomes text.",
        (
            (
                f"--steps {canvas.max_denoising_steps}",
                "steps a canvas at most; fewer: faster, worse",
            ),
            (
                f"--entropy-bound {canvas.entropy_bound}",
                "nats accepted a step; more: sooner, worse",
            ),
            (f"--t-max {canvas.t_max} --t-min {canvas.t_min}", "temperature, first and last step"),
            (f"--stability {canvas.stability_threshold}", "equal canvases in a row that end it"),
            (f"--confidence {canvas.confidence_threshold}", "mean entropy in nats that ends it"),
        ),
        "Modes ar and auto draw token by token, too:",
        (
            (f"--temperature {token.temperature:g}", "0 takes the likeliest token"),
            (f"--top-k {token.top_k}", "from so many of the likeliest"),
            (f"--top-p {token.top_p}", "of those, from the fewest with this probability"),
            (f"--min-p {token.min_p:g}", "of those, from what has this share of the likeliest's"),
        ),
        "The same --seed gives the same text; without one every answer has a new one. A checkpoint "
        "may have other values than these: `mlx-diffgemma info MODEL --settings` shows them.",
    )


def _memory() -> Sequence[Block]:
    return (
        "Weights, context and room to work must fit into what macOS gives the GPU, which is less "
        "than all memory. A model or a context that does not fit is refused, with the numbers.",
        (
            ("mlx-diffgemma info MODEL", "what it needs, what is there, and the longest context"),
            ("info MODEL --context 32768", "the same for a context of your own"),
        ),
        "When it does not fit, in this order:",
        (
            ("--max-tokens N", "a shorter answer, or a shorter prompt"),
            ("other programs", "browsers and other models: what they hold is not there"),
            ("sudo sysctl iogpu.wired_limit_mb=N", "more of the Mac for the GPU, until it "
             "restarts; info names the N that is enough, if there is one"),
            ("convert --quantize 4bit", "smaller weights of a large checkpoint; info lists what "
             "each recipe would take"),
            ("--force", "try all the same; a Mac that swaps is slow"),
        ),
        "`mlx-diffgemma profile` measures the peak of a whole answer.",
    )  # fmt: skip


def _keys() -> Sequence[Block]:
    return (
        "At chat's question (/help lists its commands):",
        (
            ("Enter", "asks"),
            (f"{ENTER}, Ctrl-J", "another line; so does \\ at the end of one"),
            ("up, down, Ctrl-R", "earlier questions, those of other days too"),
            ("Ctrl-G", "the text in your editor, $VISUAL or $EDITOR"),
            ("Tab", "completes a command; a blank in front makes a question of one"),
            ("a dropped image", "is attached; Enter alone asks about it"),
            ("Ctrl-D", "leaves"),
        ),
        "While an answer is written:",
        (
            ("Ctrl-C", "ends it, and keeps its finished canvases; in mode ar every token"),
            ("Ctrl-Z", "stops the program until `fg`"),
            ("?", "explains the live view, here and in replay"),
        ),
        "While replay plays a trace:",
        (
            ("space", "pauses, and goes on"),
            ("left, right", "a step or token back, or on"),
            ("q, Esc", "the end, with the answer"),
        ),
        "At a shell Tab completes commands, options, models and files, once `mlx-diffgemma "
        "--install-completion` has been run.",
    )


def _models() -> Sequence[Block]:
    from ...checkpoint.default import DEFAULT_MODEL, MODEL_VARIABLE

    return (
        "--model takes one of these:",
        (
            ("tiny-chat", "comes with the program: a toy that answers short English questions"),
            ("tiny-sudoku", "comes with the program: solves puzzles of 81 cells"),
            ("OWNER/NAME", "a repository of the Hugging Face Hub, from the local cache, or "
             "downloaded after a question"),
            ("a folder", "a checkpoint in Google's layout or MLX's"),
        ),
        "Without --model the first of these counts:",
        (
            (f"${MODEL_VARIABLE}", "of the environment"),
            ("model = ...", "in the config file (mlx-diffgemma help config)"),
            (DEFAULT_MODEL, "the published checkpoint in 4 bits"),
        ),
        "To have models, and to know them:",
        (
            ("mlx-diffgemma info MODEL", "what one needs, before it is downloaded"),
            ("mlx-diffgemma pull REPO", "downloads it, checked; list shows, rm removes"),
            ("mlx-diffgemma convert", "makes smaller folders of large checkpoints"),
        ),
    )  # fmt: skip


def _modes() -> Sequence[Block]:
    return (
        "One checkpoint writes in two ways. --mode chooses, and in chat /mode:",
        (
            ("diffusion", "a whole canvas at once, step by step; the default. To see an answer "
             "settle, and for templates (fill is always denoised)"),
            ("ar", "token by token. The better answers, by Google's benchmarks"),
            ("auto", "before each canvas, what should take less time on this machine"),
        ),
        "Which is faster depends on the machine and the text: a canvas takes as long for three "
        "words as for a page, a token as long as any other.",
        (
            ("mlx-diffgemma profile", "measures both here"),
            ("--lookup", "ar and auto: drafts what was written before, for text that repeats"),
            ("--think", "lets the model think first, in any mode"),
        ),
        "tiny-sudoku was trained for diffusion alone. A mode in the config file is for all answers "
        "that do not ask for another.",
    )  # fmt: skip


def _forms() -> Sequence[Block]:
    return (
        "generate and chat can hold an answer to a form. Nothing else is ever printed:",
        (
            ("--schema FILE", "JSON that satisfies the schema in a file"),
            ("--pattern RE", "text that a regular expression matches as a whole"),
            ("--choices yes,no", "one of these"),
            ("--tools FILE", "calls of tools; --tool-choice required makes the model call one"),
            ("--tools FILE --schema FILE", "calls, or JSON"),
            ('fill "In [[year:[0-9]{4}]]."', "a hole whose text matches an expression"),
        ),
        "A form chooses among what the model would write; it cannot make it write something else "
        "well. Ask for the form in the prompt, members in the schema's order, and leave room for "
        "blanks, line breaks and words that the model is used to.",
        "The strain says how far form and model are apart, in nats: near 0 where they agree, "
        "hundreds where they do not, and then the text is valid and probably wrong. Above 10 there "
        "is a warning, and with --strict exit code 1.",
    )  # fmt: skip


def _decisions() -> Sequence[Block]:
    from ...decide.answers import CLEAR, UNSURE

    return (
        "decide answers questions whose answers are known beforehand, each with its probability. "
        "Nothing is written: one pass over a short canvas reads how likely every answer is.",
        (
            ("--noul ID=TEXT", "yes or no"),
            ("--choice ID=TEXT:a,b,c", "one of up to 255 names; the text may be left out"),
            ("--score ID=TEXT:a,b,c", "a place on a scale of up to 10 levels, from low to high"),
            ("-q FILE", "questions, or a whole request, as JSON"),
        ),
        "Name an option for none of the others, describe options (in a file), ask one thing "
        "plainly, and keep the state short.",
        (
            (f"hesitation < {CLEAR:.0%}", f"clear; above {UNSURE:.0%} very unsure"),
            ("confidence", "as the contract has it: 0 is a draw between all options"),
            ("--layout own", "no question can move the answer to another"),
            ("--if ID", "exit code 0 for yes, 3 for no, 4 for not sure"),
            ("--lines FILE", "a state a line, an answer a line"),
            ("calibrate", "makes probabilities honest, from rows with known answers"),
        ),
    )  # fmt: skip


def _server() -> Sequence[Block]:
    return (
        "serve answers what editors, agents and chat programs send to OpenAI's and Anthropic's "
        "servers. A browser finds a page at the address that it prints.",
        (
            ("http://127.0.0.1:8080/v1", "the base URL for clients of OpenAI's interfaces"),
            ("http://127.0.0.1:8080", "for clients of Anthropic's, and of decisions"),
            ("any model, any key", "will do: one model answers, and asks for no key of its own"),
            ("/health, /metrics", "its state; counts for Prometheus"),
        ),
        "Only this machine can reach it. Others need a key, which a file or "
        "$MLX_DIFFGEMMA_API_KEY has:",
        (
            ("--host 0.0.0.0", "every address of this machine"),
            ("--api-key-file FILE", "what clients have to send"),
            ("--allow-host NAME", "another name that clients use, as from a container"),
            ("--cors ORIGIN", "lets the pages of another site ask"),
        ),
        "One answer is made at a time, others wait. Ctrl-C ends the server behind the canvas in "
        "hand.",
    )


def _macs() -> Sequence[Block]:
    return (
        "Macs that are joined by a cable can answer together, with generate, fill, chat, decide "
        "and serve. A hostfile names them; mlx.distributed_config writes one.",
        (
            ("--macs macs.json", "starts the same command on all of them"),
            ("--share rows", "each holds the model, and takes some rows of a canvas: sooner"),
            ("--share layers", "each holds some layers: for a model that fits none of them"),
            ("--share tensor", "each holds a part of every layer: sooner than layers, by RDMA"),
            ("--share auto", "rows where the model fits each Mac, else one of the others"),
        ),
        "Before that:",
        (
            ("info MODEL --macs 2", "what each Mac needs, and which have it, by arithmetic"),
            ("selftest --link --macs macs.json", "what the cable is worth"),
        ),
        "Two questions are better asked of one Mac each: that needs no cable.",
    )


def _config() -> Sequence[Block]:
    from ...machine.user_config import EXPECTED, KEYS, config_file

    keys = "; ".join(
        f"{', '.join(key for key in KEYS if KEYS[key] is kind)}: {expected}"
        for kind, expected in EXPECTED.items()
    )
    return (
        f"Defaults of your own, in {config_file() or 'config.toml of a home that is not there'}:",
        (
            ('model = "tiny-chat"', "the model, where no --model is typed"),
            ('system = "Be brief."', "as --system; --system \"\" takes it away for once"),
            ("max_tokens = 400", "as --max-tokens"),
        ),
        f"Each key is the name of an option. {keys}.",
        "What is typed comes first, then the environment, this file, the checkpoint, and the "
        "program's own default. generate, chat, fill and replay take all keys that they have an "
        "option for, other commands the model alone.",
        (("mlx-diffgemma info --settings", "shows every value, and where it is from"),),
    )  # fmt: skip


TOPICS: Mapping[str, Topic] = {
    "sampling": Topic("steps, temperatures, seeds: how a text is chosen", _sampling),
    "memory": Topic("what must fit, and what to do when it does not", _memory),
    "keys": Topic("what to press in chat, during an answer, in replay", _keys),
    "models": Topic("names, defaults, downloads", _models),
    "modes": Topic("canvases, tokens, or the faster of both", _modes),
    "forms": Topic("answers held to a schema, a pattern, choices or tools", _forms),
    "decisions": Topic("questions with probabilities, and how to write them", _decisions),
    "server": Topic("other programs that ask over HTTP", _server),
    "macs": Topic("several Macs that give one answer", _macs),
    "config": Topic("defaults of your own in a file", _config),
}
