import json

from cosmos_engine.augment.progress import Bars, JsonLines, Progress


def test_json_lines_say_stage_done_total_and_an_estimate(capsys):
    lines = JsonLines()
    with lines.stage("augment", 10, 4, "variant") as advance:
        advance(2)
        advance(4)
    lines.finish(accepted=9)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line.get("done"), line.get("total")) for line in said] == [(4, 10), (6, 10), (10, 10), (None, None)]
    assert said[0]["eta_s"] is None
    assert said[1]["eta_s"] >= 0
    assert said[2]["eta_s"] == 0
    assert said[3] == {"stage": "finished", "accepted": 9}


def test_a_stage_is_one_bar_on_stderr(capsys):
    bars = Bars()
    assert isinstance(bars, Progress)
    with bars.stage("augment", 10, 4, "variant") as advance:
        advance(6)
    said = capsys.readouterr()
    assert said.out == ""
    assert "10/10" in said.err
