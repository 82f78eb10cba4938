"""Reading a connector's `manifest.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from connectors.contract import Manifest
from connectors.errors import ConfigError


def manifest_beside(module_file: str) -> Manifest:
    """Return the manifest that lies beside a connector's module; pass `__file__`. Raises `ConfigError`."""
    path = Path(module_file).with_name("manifest.toml")
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(
            f"The connector in {path.parent.name} has no readable manifest.toml.",
            code="manifest-invalid",
            remedy="Put a manifest.toml beside connector.py and ship it with the package.",
        ) from error
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        places = (
            ", ".join(".".join(map(str, item["loc"])) for item in error.errors(include_input=False))
            if isinstance(error, ValidationError)
            else "not TOML"
        )
        raise ConfigError(
            f"The manifest.toml of {path.parent.name} is wrong: {places}.",
            code="manifest-invalid",
            remedy="Compare it with the manifest fields listed in docs/connectors.md.",
        ) from error
