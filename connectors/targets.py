"""Targets as configured: one YAML file per target, secrets by reference only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from connectors.contract import Connector, Repeat, Settings
from connectors.errors import ConfigError

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_SECRET_KEY: Final = re.compile(
    r"(^|_)(password|passwd|passphrase|secrets?|token|api_?key|private_?key|credentials?)$", re.I
)
_URL_LOGIN: Final = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]*@", re.I)
_KEYS: Final = frozenset({"target", "connector", "concurrency", "timeout", "settings", "repeat"})
_MAX_FILE: Final = 1 << 18
_MAX_SECRET: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """One configured target; `settings` hold references to secrets, never secrets."""

    name: str
    connector: str
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    concurrency: int = 16
    timeout: float = 30.0
    """Seconds one send may take."""
    repeat: Repeat | None = None
    """What the operator knows of this target when it differs from the connector's manifest."""
    origin: Path | None = None
    """The file it was read from; error messages name it and `{file: …}` is relative to it."""


def load_targets(directory: Path | str) -> list[TargetConfig]:
    """Read every `*.yaml` and `*.yml` of a directory, sorted by name; raises `ConfigError` naming the file and the key."""
    folder = Path(directory)
    if not folder.is_dir():
        raise ConfigError(
            f"The folder of targets {folder} does not exist.",
            code="targets-missing",
            remedy="Create it or correct the setting.",
        )
    targets: dict[str, TargetConfig] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".yaml", ".yml"}):
        target = _read(path)
        if target.name in targets:
            raise _wrong(path, "target", "is used by another file as well")
        targets[target.name] = target
    return list(targets.values())


def build_settings(target: TargetConfig, connector: type[Connector]) -> Settings:
    """Resolve references and validate; raises `ConfigError` that names the key and never shows a value."""
    model = connector.settings_model
    origin = target.origin or Path(target.name)
    schema = model.model_json_schema()
    for key, value, inner in _walk_schema(target.settings, schema, schema, ""):
        if inner.get("writeOnly") and isinstance(value, (str, int, float)):
            raise _literal(origin, key)
    try:
        return model.model_validate(_resolve(target.settings, origin, "settings"))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        key = ".".join(map(str, ("settings", *first["loc"])))
        raise _wrong(origin, key, f"is wrong: {first['msg']}") from None


def seconds(value: Any) -> float | None:
    """Return a duration such as `10s`, `500ms`, `2m` or a number of seconds; None when it is none."""
    if isinstance(value, bool):
        return None
    match = _DURATION.fullmatch(str(value).strip())
    return float(match[1]) * _UNITS[match[2]] if match else None


def _wrong(path: Path, key: str, what: str, code: str = "config-invalid") -> ConfigError:
    return ConfigError(
        f"Target file {path.name}: `{key}` {what}.",
        code=code,
        remedy=f"Correct `{key}` in {path}.",
        pointer="/" + key.replace(".", "/"),
    )


def _literal(path: Path, key: str) -> ConfigError:
    return ConfigError(
        f"Target file {path.name}: `{key}` holds a secret in clear.",
        code="secret-in-config",
        remedy="Write {env: NAME} or {file: /path} in its place and change the secret that was exposed.",
        pointer="/" + key.replace(".", "/"),
    )


def _read(path: Path) -> TargetConfig:
    if path.stat().st_size > _MAX_FILE:
        raise _wrong(path, "(file)", "is larger than 256 KiB")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        # The parser quotes the file's text, which may hold a secret.
        raise _wrong(path, "(file)", "is not YAML") from None
    if not isinstance(raw, dict):
        raise _wrong(path, "(file)", "is not a mapping")
    for key in raw:
        if key not in _KEYS:
            raise _wrong(path, str(key), f"is not known; the keys are {', '.join(sorted(_KEYS))}")
    name, connector = raw.get("target"), raw.get("connector")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _wrong(path, "target", "must be lower-case letters, digits and hyphens, starting with a letter")
    if not isinstance(connector, str):
        raise _wrong(path, "connector", "must name a connector")
    concurrency, timeout = raw.get("concurrency", 16), seconds(raw.get("timeout", 30))
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= 1000:
        raise _wrong(path, "concurrency", "must be a whole number from 1 to 1000")
    if timeout is None or not 0.05 <= timeout <= 3600:
        raise _wrong(path, "timeout", "must be a duration from 50ms to 1h, such as 10s")
    repeat = raw.get("repeat")
    if repeat is not None and repeat not in set(Repeat):
        raise _wrong(path, "repeat", f"must be one of {', '.join(Repeat)}")
    settings = raw.get("settings") or {}
    if not isinstance(settings, dict):
        raise _wrong(path, "settings", "must be a mapping")
    for key, value in _walk(settings, "settings"):
        if isinstance(value, str) and (_URL_LOGIN.match(value) or _SECRET_KEY.search(key.rpartition(".")[2])):
            raise _literal(path, key)
    return TargetConfig(
        name, connector, settings, concurrency, timeout, Repeat(repeat) if repeat else None, path
    )


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in {"env", "file"}


def _walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if _is_reference(value):
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _walk(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, key)
    else:
        yield key, value


def _walk_schema(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], key: str
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Walk a value and the JSON Schema of its model side by side; secrets are `writeOnly` there."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _walk_schema(value, choice, root, key)
    if _is_reference(value):
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            below = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if isinstance(below, dict):
                yield from _walk_schema(inner, below, root, f"{key}.{name}" if key else f"settings.{name}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _walk_schema(inner, schema.get("items") or {}, root, key)
    else:
        yield key, value, schema


def _resolve(value: Any, origin: Path, key: str) -> Any:
    if _is_reference(value):
        kind, name = next(iter(value.items()))
        return _from_env(str(name), origin, key) if kind == "env" else _from_file(str(name), origin, key)
    if isinstance(value, Mapping):
        return {name: _resolve(inner, origin, f"{key}.{name}") for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolve(inner, origin, key) for inner in value]
    return value


def _from_env(name: str, origin: Path, key: str) -> str:
    if not (found := os.environ.get(name)):
        raise _wrong(
            origin, key, f"refers to the environment variable {name}, which is not set", "secret-missing"
        )
    return found


def _from_file(name: str, origin: Path, key: str) -> str:
    path = origin.parent / name
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_SECRET + 1)
    except (OSError, UnicodeDecodeError):
        raise _wrong(
            origin, key, f"refers to the file {path}, which cannot be read", "secret-missing"
        ) from None
    if not 0 < len(text) <= _MAX_SECRET:
        raise _wrong(
            origin, key, f"refers to the file {path}, which is empty or larger than 64 KiB", "secret-missing"
        )
    return text.rstrip("\r\n")
