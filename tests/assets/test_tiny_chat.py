"""tiny-chat: an ordinary packed folder that answers in both modes, and its card."""

import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.config import read_config

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from measure_tiny_chat import WAYS, answer, table, unpacked  # noqa: E402
from tiny_chat.example import Example  # noqa: E402
from tiny_chat.skills import SKILLS, held_out, is_right  # noqa: E402

FOLDER = embedded_folder("tiny-chat")
assert FOLDER
RESULTS = ROOT / "scripts/bench/results/tiny-chat-linux-2core.json"
# Shares of right answers, denoised and token by token, of the trainer's own float16 weights.
TRAINERS = {
    "arithmetic": (1.00, 1.00),
    "numbers": (0.84, 0.86),
    "yes or no": (0.94, 0.94),
    "count": (0.12, 1.00),
    "sort": (1.00, 1.00),
    "capitals": (1.00, 0.98),
    "spell": (0.99, 1.00),
    "JSON": (0.99, 1.00),
    "date": (1.00, 1.00),
    "weekday": (1.00, 1.00),
    "facts": (1.00, 1.00),
    "one word": (0.78, 0.80),
    "in capitals": (0.96, 1.00),
    "follow-up": (1.00, 1.00),
    "small talk": (1.00, 1.00),
    "spelling": (0.69, 1.00),
    "story": (0.33, 1.00),
    "tool call": (1.00, 1.00),
    "tool answer": (0.99, 1.00),
    "no tool": (1.00, 1.00),
    "thinking: arithmetic": (0.99, 1.00),
    "thinking: other": (0.58, 0.85),
}


@pytest.fixture(scope="module")
def session() -> dg.Session:
    return dg.load("tiny-chat")


# --- the folder


def test_the_folder_holds_what_it_should_and_stays_small() -> None:
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sorted(files) == [
        "MODEL.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert files["model.safetensors"] == 2_339_032
    assert sum(files.values()) <= 2_500_000


def test_it_says_that_both_modes_were_trained(tmp_path: Path) -> None:
    for folder in (FOLDER, shutil.copytree(FOLDER, tmp_path / "copy")):
        config = read_config(folder)
        assert (config.task, config.modes) == (None, ("diffusion", "ar"))
        assert config.canvas_length == 64
        assert config.stop_ids == (1, 5, 18)


# --- prompts


def test_a_prompt_is_what_training_wrote(session: dg.Session) -> None:
    """Two of the trainer's own: tools in front, and the answer begun behind a tool's result."""
    (spelled,) = held_out("spell", 1)
    question = spelled.messages[-1]["content"]
    assert spelled.prompt(session.tokenizer) == (
        f"<bos><|turn>user\n{question}<turn|>\n<|turn>model\n"
    )
    (called,) = held_out("tool answer", 1, seed=2)
    assert called.prompt(session.tokenizer) == TOOL_ANSWER
    assert called.expected == "28 + 28 = 56."


TOOL_ANSWER = (
    "<bos><|turn>system\n"
    '<|tool>declaration:add{description:<|"|>Add two numbers.<|"|>,parameters:{properties:{'
    'a:{type:<|"|>INTEGER<|"|>},b:{type:<|"|>INTEGER<|"|>}},'
    'required:[<|"|>a<|"|>,<|"|>b<|"|>],type:<|"|>OBJECT<|"|>}}<tool|>'
    '<|tool>declaration:weather{description:<|"|>Get the weather.<|"|>,parameters:{properties:{'
    'city:{type:<|"|>STRING<|"|>}},required:[<|"|>city<|"|>],type:<|"|>OBJECT<|"|>}}<tool|>'
    "<turn|>\n<|turn>user\nhow much is 28 + 28?<turn|>\n<|turn>model\n"
    "<|tool_call>call:add{a:28,b:28}<tool_call|>"
    '<|tool_response>response:add{value:<|"|>56<|"|>}<tool_response|>'
)


def test_held_out_prompts_are_the_trainers() -> None:
    """A hash of the answers: prompts of a seed depend on the order in which words are drawn."""
    skills = ("arithmetic", "count", "JSON", "date", "spelling", "story")
    drawn = [example.expected for skill in skills for example in held_out(skill, 3)]
    assert sha256(json.dumps(drawn).encode()).hexdigest()[:16] == "8b9cf0d75d30cdb4"


def test_a_story_is_held_against_its_grammar() -> None:
    (example,) = held_out("story", 1)
    assert is_right(example, example.expected)
    assert not is_right(example, example.expected.replace("Once", "Onec"))
    hero = example.expected.split(" called ")[0].split()[-1]
    other = "owl" if hero != "owl" else "pig"
    renamed = example.expected.replace(f"{hero} called", f"{other} called", 1)
    assert is_right(example, renamed) == ("about" not in example.messages[-1]["content"])


# --- answers


@pytest.mark.parametrize("way", ["denoised", "autoregressive"])
@pytest.mark.parametrize(("skill", "number"), [("sort", 2), ("date", 1), ("tool call", 1)])
def test_it_answers_in_both_modes(session: dg.Session, skill: str, number: int, way: str) -> None:
    for seed, example in enumerate(held_out(skill, number)):
        reply, right = answer(session, example, way, seed)
        assert right, (reply.text, example.expected)
        assert reply.finish_reason == "stop"
        assert reply.mode == WAYS[way].get("mode", "diffusion")


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_it_thinks_where_it_is_asked_to(session: dg.Session, mode: str) -> None:
    session.reset()
    settings = dg.Settings(seed=1, mode=mode, temperature=None if mode == "diffusion" else 0.0)
    reply = session.ask("What is 17 + 25?", think=True, settings=settings)
    assert (reply.text, reply.thinking) == ("17 + 25 = 42.", "7+5=12 carry 1\n1+2+1=4")


# --- the card


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(RESULTS.read_text())
    return content


def test_the_card_has_the_measured_table(results: dict[str, Any]) -> None:
    assert table(results["skills"]) in (FOLDER / "MODEL.md").read_text(encoding="utf-8")


def test_the_shipped_weights_were_measured(results: dict[str, Any]) -> None:
    shipped = sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()
    assert {run["weights"] for run in results["runs"]} == {shipped}
    assert set(results["skills"]) == set(SKILLS)


def test_packing_cost_no_skill_more_than_five_points(results: dict[str, Any]) -> None:
    for skill, trainers in TRAINERS.items():
        for way, share in zip(("denoised", "autoregressive"), trainers, strict=True):
            row = results["skills"][skill][way]
            assert row["right"] / row["n"] >= share - 0.05, (skill, way)


# --- slow: all skills


def three(skill: str) -> list[Example]:
    return held_out(skill, 3)


def asked(*options: str) -> dict[str, Any]:
    """What `generate --json` prints of tiny-chat, in a process of its own."""
    command = [sys.executable, "-m", "mlx_diffgemma", "generate", "--model", "tiny-chat", "--json"]
    ran = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    reply: dict[str, Any] = json.loads(ran.stdout)
    return reply


@pytest.mark.slow
@pytest.mark.parametrize("way", ["denoised", "autoregressive"])
def test_three_prompts_a_skill_through_the_program(
    session: dg.Session, way: str, tmp_path: Path
) -> None:
    """Each answered as in this process, and most of them right."""
    right = 0
    options = ["--mode", "ar", "--temperature", "0"] if way == "autoregressive" else []
    for skill in SKILLS:
        for seed, example in enumerate(three(skill)):
            (tmp_path / "prompt").write_text(example.prompt(session.tokenizer), encoding="utf-8")
            said = asked(
                *("--raw", "--prompt-file", str(tmp_path / "prompt"), "--seed", str(seed)),
                *("--max-tokens", "320", *options),
            )
            reply, correct = answer(session, example, way, seed)
            assert tuple(said["token_ids"]) == reply.token_ids, (skill, seed)
            assert said["mode"] == reply.mode
            right += correct
    assert right >= (62 if options else 52)  # of 66; 97% and 87% in the long run


@pytest.mark.slow
def test_unpacked_weights_answer_as_the_packed_do(session: dg.Session) -> None:
    """What --unpacked measures: rounding may turn a draw that lies on a border, and seldom does."""
    with unpacked(FOLDER) as folder:
        plain = dg.load(folder)
    pairs = [
        (answer(session, example, "denoised", 0), answer(plain, example, "denoised", 0))
        for skill in SKILLS
        for example in held_out(skill, 1)
    ]
    equal = sum(one[0].token_ids == other[0].token_ids for one, other in pairs)
    assert equal >= 0.8 * len(pairs), f"{equal} of {len(pairs)}"
    assert abs(sum(one[1] for one, _ in pairs) - sum(other[1] for _, other in pairs)) <= 2
