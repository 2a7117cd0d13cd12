import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.quality.critic import ChatCritic, Critic, Opinion, parsed, worst_opinion


@pytest.mark.parametrize(
    ("answer", "score", "reason"),
    [
        ("8, the cube is where it was.", 0.8, "the cube is where it was"),
        ("10/10. All the same", 1.0, "All the same"),
        ("Score: 0 - the cube is gone", 0.0, "the cube is gone"),
        ("7.5\nthe gripper\nis blurred", 0.75, "the gripper is blurred"),
        ("10", 1.0, "10"),
    ],
)
def test_an_answer_is_a_number_of_ten_and_a_reason(answer, score, reason):
    assert parsed(answer) == Opinion(score, reason)


@pytest.mark.parametrize("answer", ["", "it looks fine", "110 things", "42"])
def test_an_answer_without_such_a_number_counts_nothing(answer):
    assert parsed(answer).score == 0
    assert "no number" in parsed(answer).reason


def test_the_model_is_shown_the_same_frames_of_both():
    asked = []

    def answering(pictures, question):
        asked.append((pictures, question))
        return "6 because"

    source = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    critic = ChatCritic(answering, "model 1234", frames=3)
    assert isinstance(critic, Critic)
    assert critic.judge(source, source + 100, "lift the cube") == Opinion(0.6, "because")
    (pictures, question) = asked[0]
    assert [int(picture[0, 0, 0]) for picture in pictures] == [0, 10, 19, 100, 110, 119]
    assert "lift the cube" in question


def test_a_critic_needs_a_frame():
    with pytest.raises(InputError, match="critic frames"):
        ChatCritic(lambda pictures, question: "1", "none", frames=0)


def test_the_worst_camera_decides():
    opinions = {"side": Opinion(0.4, "a"), "front": Opinion(0.9, "b"), "hand": Opinion(0.4, "c")}
    assert worst_opinion(opinions) == ("hand", Opinion(0.4, "c"))
