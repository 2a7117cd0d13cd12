"""Configs: a frozen dataclass beside its owner, read from YAML and `key=value` overrides through OmegaConf.

An unknown key, a value of the wrong type and a missing file are each one line (`InputError`); an unknown key is
answered with the nearest one that exists.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError, safe_load

from cosmos_engine.errors import InputError

ConfigT = TypeVar("ConfigT")


def config_folder() -> Path:
    """Return the folder of the shipped YAML files: inside the wheel, or the checkout's `configs/`."""
    packaged = Path(str(resources.files("cosmos_engine"))) / "configs"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parent.parent / "configs"


def find_config(name: str) -> Path:
    """Return the file that `name` means: a path to a YAML file, or the name of a shipped one without its suffix.

    Raises:
        InputError: if neither exists; names the nearest shipped config.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return path
    folder = config_folder()
    shipped = folder / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    names = sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))
    raise InputError(f"config {name!r}: no such file, and no shipped config of that name{nearest(name, names)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a hint for an unknown name: '; did you mean 'x'?', or the whole list where nothing is near."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def load_config(
    schema: type[ConfigT],
    file: str | Path | None = None,
    overrides: Iterable[str] = (),
    defaults: ConfigT | None = None,
) -> ConfigT:
    """Read a config of the dataclass `schema`: its defaults, then `file`, then `key=value` overrides.

    Args:
        schema: a dataclass whose every field has a default; nested dataclasses are allowed.
        file: a YAML file, or the name of a shipped config.
        overrides: `key=value` or `group.key=value`, values in YAML syntax.
        defaults: an instance whose values stand in for the schema's own defaults.

    Raises:
        InputError: unknown key (names the nearest), wrong type, malformed YAML or override, missing file.
    """
    config = OmegaConf.structured(schema if defaults is None else defaults)
    known = list(_dotted_fields(schema))
    if file is not None:
        path = file if isinstance(file, Path) else find_config(file)
        try:
            layer = safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from error
        except YAMLError as error:
            raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(layer, dict):
            raise InputError(f"{path}: expected `key: value` lines, got {type(layer).__name__}")
        config = _merged(config, layer, known, str(path))
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise InputError(f"override {override!r}: expected key=value")
        try:
            nested: Any = safe_load(value)
        except YAMLError as error:
            raise InputError(f"override {override!r}: {value!r} is not valid YAML") from error
        for part in reversed(key.split(".")):
            nested = {part: nested}
        config = _merged(config, nested, known, f"override {override!r}")
    try:
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise InputError(f"{schema.__name__}: {_first_line(error)}") from error


def as_yaml(config: object) -> str:
    """Return a config as YAML that `load_config` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _merged(config: Any, layer: Mapping[str, Any], known: list[str], origin: str) -> Any:
    for key in _dotted_keys(layer):
        if key not in known and not any(key.startswith(f"{mapping}.") for mapping in known):
            raise InputError(f"{origin}: unknown key {key!r}{nearest(key, known)}")
    for key, value in layer.items():
        try:
            config = OmegaConf.merge(config, {key: value})
        except OmegaConfBaseException as error:
            at = getattr(error, "full_key", None)
            raise InputError(f"{origin}: {f'key {at!r}: ' if at else ''}{_first_line(error)}") from error
        except TypeError as error:  # OmegaConf's answer to these two
            raise InputError(
                f"{origin}: key {key!r}: a list in the place of a mapping, or a mapping in that of a list: {value}"
            ) from error
    return config


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _dotted_fields(schema: Any, prefix: str = "") -> Iterator[str]:
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _dotted_fields(kind, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def _dotted_keys(layer: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in layer.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
