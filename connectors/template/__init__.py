"""A complete connector package to start from; `hub connector new NAME` writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from connectors.errors import ConfigError

_FILES: Final = Path(__file__).with_name("files")
_SUFFIX: Final = ".tmpl"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_package(name: str, directory: Path) -> list[Path]:
    """Write a connector package called `name` into `directory`/`name` and return its files.

    Raises `ConfigError` when the name is not fit or the folder already holds something.
    """
    if not _NAME.fullmatch(name) or len(name) > 40:
        raise ConfigError(
            "A connector's name is lower-case letters, digits and hyphens, at most 40.",
            code="connector-name-invalid",
            remedy="Choose a name such as acme or acme-health.",
        )
    root = directory / name
    if root.exists() and any(root.iterdir()):
        raise ConfigError(
            f"The folder {root} already holds something; nothing was written.",
            code="folder-not-empty",
            remedy="Choose another name or --directory.",
        )
    package = "hub_connector_" + name.replace("-", "_")
    words = {
        "@NAME@": name,
        "@PACKAGE@": package,
        "@CLASS@": "".join(part.capitalize() for part in name.split("-")),
    }
    written = []
    for source in sorted(_FILES.rglob("*" + _SUFFIX)):
        inside = source.relative_to(_FILES)
        parts = [package if part == "package" else part for part in inside.parts]
        target = root.joinpath(*parts).with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written
