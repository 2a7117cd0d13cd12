import json
import shlex
import sys

import numpy as np
import pytest

from cosmos_engine.augment.prompt_command import CommandPrompts
from cosmos_engine.augment.prompts import OwnPrompts, PromptRequest, PromptWriter
from cosmos_engine.errors import InputError

from .conftest import LABELS


def request(variant: int = 1) -> PromptRequest:
    return PromptRequest(3, variant, variant, "lift", "lift it", LABELS, np.random.default_rng(variant))


@pytest.fixture
def program(tmp_path):
    """Return a command that runs some Python with the question in `question`, and notes each call."""

    def make(body: str) -> list[str]:
        file = tmp_path / "writer.py"
        file.write_text(
            "import json, sys, time\n"
            f"open({str(tmp_path / 'asked')!r}, 'a').write('x')\n"
            f"question = json.load(sys.stdin)\n{body}\n"
        )
        return [sys.executable, str(file)]

    return make


def test_the_program_gets_the_question_and_gives_the_prompt(program, tmp_path):
    command = program("print(json.dumps(question))")
    writer = CommandPrompts(command, OwnPrompts(["a red cube"]), tmp_path / "log")
    assert isinstance(writer, PromptWriter)
    question = json.loads(writer.write(request()))
    assert question.pop("seed") == int(np.random.default_rng(1).integers(2**31))
    assert question == {
        "demo": 3,
        "variant": 1,
        "task": "lift",
        "instruction": "lift it",
        "objects": ["red cube"],
        "keep": "The red cube and the robot arm keep their shape, colour, place and motion in every frame.",
        "draft": "a red cube",
    }
    assert json.loads(json.dumps(writer.provenance))["command"] == command


def test_an_answer_becomes_one_line_that_names_what_must_not_change(program, tmp_path):
    writer = CommandPrompts(program("print('a kitchen\\n  at dusk ')"), OwnPrompts(["x"]), tmp_path / "log")
    assert writer.write(request()) == (
        "a kitchen at dusk The red cube and the robot arm keep their shape, colour, place and motion in every frame."
    )


def test_what_is_written_down_is_not_asked_again(program, tmp_path):
    command = program("print('a red cube,', question['variant'])")
    first = CommandPrompts(command, OwnPrompts(["x"]), tmp_path / "log")
    prompts = [first.write(request(variant)) for variant in (1, 2, 1)]
    assert prompts == ["a red cube, 1", "a red cube, 2", "a red cube, 1"]
    torn = (tmp_path / "log").read_bytes() + b'{"demo": 3, "var'
    (tmp_path / "log").write_bytes(torn)
    again = CommandPrompts(program("sys.exit(1)"), OwnPrompts(["x"]), tmp_path / "log")
    assert [again.write(request(variant)) for variant in (1, 2)] == prompts[:2]
    assert (tmp_path / "asked").read_text() == "xx"
    with pytest.raises(InputError, match="exit code 1"):
        again.write(request(3))
    assert len((tmp_path / "log").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('no model\\nof that name')", "exit code 1: of that name"),
        ("print('  ')", "expected a prompt of 1 to 4000 characters, got 0"),
        ("print('x' * 5000)", "got 5000"),
        ("sys.stdout.buffer.write(b'\\xff\\xfe')", "cannot be run"),
        ("time.sleep(60)", "no answer in 0.5 s"),
    ],
)
def test_a_program_that_fails_is_one_line(body, message, program, tmp_path):
    timeout_s = 0.5 if "sleep" in body else 60.0
    writer = CommandPrompts(program(body), OwnPrompts(["x"]), tmp_path / "log", timeout_s)
    with pytest.raises(InputError, match=message) as refused:
        writer.write(request())
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "log").exists()


def test_a_program_that_is_not_there_and_a_damaged_log_are_named(tmp_path):
    with pytest.raises(InputError, match="no-such-program: cannot be run"):
        CommandPrompts(shlex.split("no-such-program --x"), OwnPrompts(["x"]), tmp_path / "log").write(request())
    (tmp_path / "log").write_text('{"demo": 1}\n')
    with pytest.raises(InputError, match=r"log:1: damaged line"):
        CommandPrompts(["x"], OwnPrompts(["x"]), tmp_path / "log")
    with pytest.raises(InputError, match="expected a program"):
        CommandPrompts([], OwnPrompts(["x"]), tmp_path / "none")
