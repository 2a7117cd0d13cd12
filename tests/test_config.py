from dataclasses import dataclass, field

import pytest

from cosmos_engine.config import as_yaml, config_folder, load_config
from cosmos_engine.errors import InputError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    updates: int = 3
    name: str = "a"
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    inner: Inner = field(default_factory=Inner)
    others: dict[str, Inner] = field(default_factory=dict)


def test_defaults_file_and_overrides_apply_in_that_order(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("updates: 5\ninner:\n  rate: 0.25\n")
    config = load_config(Outer, file, ["updates=7", "sizes=[4]"])
    assert config == Outer(updates=7, sizes=[4], inner=Inner(0.25))


def test_yaml_round_trip(tmp_path):
    file = tmp_path / "c.yaml"
    config = Outer(updates=9, inner=Inner(0.125))
    file.write_text(as_yaml(config))
    assert load_config(Outer, file) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("update=1", "unknown key 'update'; did you mean 'updates'"),
        ("inner.rat=1", "unknown key 'inner.rat'; did you mean 'inner.rate'"),
        ("updates=many", "updates"),
        ("updates", "expected key=value"),
        ("updates=[1", "not valid YAML"),
        ("inner=3", "inner"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_it(override, message):
    with pytest.raises(InputError, match=message) as caught:
        load_config(Outer, None, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("- 1", "a: [", "updates: x", "nme: b", "sizes: {a: 1}", "others: [a]", "others: {a: [1]}", "others: {a: 1}"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path, text):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"c\.yaml") as caught:
        load_config(Outer, file)
    assert "\n" not in str(caught.value)


def test_an_unknown_config_name_is_answered_with_what_exists():
    with pytest.raises(InputError, match="no shipped config of that name"):
        load_config(Outer, "nonesuch")


def test_shipped_configs_are_found():
    assert list(config_folder().rglob("*.yaml"))
