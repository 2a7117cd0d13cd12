"""`cosmos-engine verify` names the first difference, and measures variants again where it is asked to."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_engine.augment import gate as gate_module
from cosmos_engine.data import Recording
from cosmos_engine.data.digest import json_sha256
from cosmos_engine.data.episode import Episode


def test_untouched_recording_and_dataset_are_intact(command, small_recording: Path, small_dataset: Path) -> None:
    assert command("verify", small_recording).out == [
        f"{small_recording}: 16 of 16 episodes intact, 64 control steps",
    ]
    assert command("verify", small_dataset).out == [
        f"{small_dataset}: 44 episodes compared with the certificate only (--against RECORDING for more)",
        "intact",
    ]
    for option in ("--against", "--recording"):
        assert command("verify", small_dataset, option, small_recording).out == [
            f"{small_dataset}: 44 episodes compared with the certificate and with {small_recording}",
            "intact",
        ]


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("rejected.json", "rejected.json: changed"),
        ("rejected/000001_002_wrist.jpg", "rejected/000001_002_wrist.jpg: changed"),
        ("certificate.json", "damaged JSON"),
        ("meta/.zattrs", "damaged JSON"),
        ("data/wrist_image/0.0.0.0", "wrist_image"),
    ],
)
def test_a_changed_byte_is_one_line_that_names_it(command, small_dataset: Path, file: str, found: str) -> None:
    content = (small_dataset / file).read_bytes()
    (small_dataset / file).write_bytes(content[: len(content) // 2])
    ran = command("verify", small_dataset)
    assert ran.code == 2
    assert found in ran.error
    assert "intact" not in ran.out


def test_signed_certificates_are_checked_with_a_key(command, small_dataset: Path, tmp_path: Path) -> None:
    assert command("keygen", tmp_path / "mine").code == 0
    assert command("keygen", tmp_path / "other").code == 0
    refused = command("verify", small_dataset, "--public-key", tmp_path / "mine.pub")
    assert refused.error.endswith("differs: certificate.sig: missing; nobody signed the certificate")
    assert command("sign", small_dataset, "--key", tmp_path / "mine").out == [
        f"signed: {small_dataset}/certificate.sig"
    ]
    assert "signed (--public-key FILE checks by whom)" in command("verify", small_dataset).out
    assert command("verify", small_dataset, "--public-key", tmp_path / "mine.pub").out[-2:] == [
        f"signed by the key of {tmp_path}/mine.pub",
        "intact",
    ]
    refused = command("verify", small_dataset, "--public-key", tmp_path / "other.pub")
    assert f"certificate.sig: not made by {tmp_path}/other.pub" in refused.error
    refused = command("verify", small_dataset, "--public-key", tmp_path / "mine")
    assert "a private key; expected the public one" in refused.error


def test_a_dataset_that_differs_is_not_signed(command, small_dataset: Path, tmp_path: Path) -> None:
    command("keygen", tmp_path / "mine")
    (small_dataset / "rejected.json").unlink()
    refused = command("sign", small_dataset, "--key", tmp_path / "mine")
    assert refused.error.endswith("not signed, since it differs: rejected.json: missing")
    assert not (small_dataset / "certificate.sig").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{dataset}", "--gate"], "--gate: variants are measured against the recording; say --against RECORDING"),
        (["{recording}", "--gate"], "--gate: {recording} is no dataset"),
        (["{recording}", "--against", "{recording}"], "--against: {recording} is no dataset"),
        (["{recording}", "--public-key", "x"], "--public-key: {recording} is no dataset"),
        (["{dataset}", "--against", "{tmp}/gone"], "{tmp}/gone: no recording here"),
        (["{dataset}", "--public-key", "{tmp}/gone"], "{tmp}/gone: cannot be read: No such file"),
        (["{tmp}/gone"], "{tmp}/gone: no recording here"),
    ],
)
def test_bad_input_is_one_line(
    command, small_recording: Path, small_dataset: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    names = {"dataset": small_dataset, "recording": small_recording, "tmp": tmp_path}
    ran = command("verify", *(word.format(**names) for word in words))
    assert ran.code == 2
    assert message.format(**names) in ran.error


def test_a_certificate_of_another_version_is_one_line(command, small_dataset: Path) -> None:
    certificate = json.loads((small_dataset / "certificate.json").read_text())
    (small_dataset / "certificate.json").write_text(json.dumps({**certificate, "schema": 1}))
    assert "schema 2, got 'cosmos-engine/certificate' schema 1: made by another version" in (
        command("verify", small_dataset).error
    )


@dataclasses.dataclass(frozen=True)
class SmallVerdict:
    accepted: bool
    measures: dict[str, float]
    failures: tuple[str, ...]


class SmallGate:
    """In the place of the gate: its measure is the mean of red, so that its verdicts cost nothing."""

    judged = 0
    least = 0.0

    def __init__(self, config: Any, reader: object) -> None:
        assert config.fixed.least_motion == 0.1
        assert config.fixed.edge_f1 is None
        assert config.stop_early is True

    @property
    def provenance(self) -> dict[str, str]:
        return {"reader": "r"}

    def judge(self, source: Episode, images: dict[str, np.ndarray], prompt: str) -> SmallVerdict:
        assert prompt.startswith("look ")
        assert set(images) == set(source.cameras)
        SmallGate.judged += 1
        measures = {f"{camera}/least_motion": float(frames[..., 0].mean()) for camera, frames in sorted(images.items())}
        failures = tuple(f"{name} too low" for name, value in measures.items() if value < SmallGate.least)
        return SmallVerdict(not failures, measures, failures)


@pytest.fixture
def small_gate(monkeypatch: pytest.MonkeyPatch) -> type[SmallGate]:
    monkeypatch.setattr(gate_module, "Gate", SmallGate)
    monkeypatch.setattr(SmallGate, "judged", 0)
    monkeypatch.setattr(SmallGate, "least", 0.0)
    return SmallGate


def _forge(dataset: Path, change) -> None:
    certificate = json.loads((dataset / "certificate.json").read_text())
    attrs = json.loads((dataset / "meta" / ".zattrs").read_text())
    change(certificate, attrs["episodes"])
    for listed, info in zip(certificate["episodes"], attrs["episodes"], strict=True):
        listed["info_sha256"] = json_sha256(info)
    del certificate["sha256"]
    certificate["sha256"] = json_sha256(certificate)
    (dataset / "certificate.json").write_text(json.dumps(certificate))
    (dataset / "meta" / ".zattrs").write_text(json.dumps(attrs))


def test_every_accepted_variant_is_measured_again(
    command, small_recording: Path, small_dataset: Path, small_gate: type[SmallGate]
) -> None:
    ran = command("verify", small_dataset, "--against", small_recording, "--gate")
    assert ran.out[-2:] == [
        "29 variants measured again: each passes, with the measures that were written",
        "intact",
    ]
    assert small_gate.judged == 29


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update({"wrist/least_motion": m["wrist/least_motion"] + 2e-6}), "wrist/least_motion is "),
        (lambda m: m.pop("agentview/least_motion"), "agentview/least_motion was not measured before"),
        (lambda m: m.update({"agentview/iou": 1.0}), "agentview/iou cannot be measured"),
    ],
)
def test_measures_that_were_made_up_are_found(
    command, small_recording: Path, small_dataset: Path, small_gate: type[SmallGate], change, message: str
) -> None:
    _forge(small_dataset, lambda certificate, episodes: change(episodes[7]["gate"]["measures"]))
    assert command("verify", small_dataset, "--against", small_recording).code == 0
    ran = command("verify", small_dataset, "--against", small_recording, "--gate")
    assert f"{small_dataset}: differs: demo 2 variant 2: {message}" in ran.error


def test_last_digits_of_another_machine_are_no_difference(
    command, small_recording: Path, small_dataset: Path, small_gate: type[SmallGate]
) -> None:
    def nudge(certificate, episodes) -> None:
        episodes[7]["gate"]["measures"]["wrist/least_motion"] += 5e-7

    _forge(small_dataset, nudge)
    assert command("verify", small_dataset, "--against", small_recording, "--gate").code == 0


def test_a_variant_that_passes_no_longer_is_named(
    command, small_recording: Path, small_dataset: Path, small_gate: type[SmallGate]
) -> None:
    recording = Recording(small_recording)
    reds = [
        (recording.episode(demo).cameras[camera].rgb // (variant + 1))[..., 0].mean()
        for demo in range(15)
        for variant in (1, 2)
        if (demo, variant) != (1, 2)
        for camera in ("agentview", "wrist")
    ]
    small_gate.least = float(min(reds)) + 1e-6
    ran = command("verify", small_dataset, "--against", small_recording, "--gate")
    assert "does not pass the gate: " in ran.error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["config"].update(gate=None), "was made without a gate"),
        (lambda c: c["config"]["gate"].update(critic="a model"), "was also judged by the critic 'a model'"),
        (lambda c: c["config"]["gate"].update(reader="sam2"), "was read by 'sam2'; the reader here is 'r'"),
        (
            lambda c: c["config"]["gate"]["config"]["fixed"].update(smell=1.0),
            "was made with a gate that this version does not have",
        ),
    ],
)
def test_a_gate_that_is_not_here_is_one_line(
    command, small_recording: Path, small_dataset: Path, small_gate: type[SmallGate], change, message: str
) -> None:
    _forge(small_dataset, lambda certificate, episodes: change(certificate))
    ran = command("verify", small_dataset, "--against", small_recording, "--gate")
    assert ran.code == 2
    assert message in ran.error
