"""Headers and version negotiation of FSPIOP messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

_MEDIA: Final = re.compile(
    r"application/vnd\.interoperability\.(iso20022\.)?([A-Za-z]+)\+json(?:\s*;\s*version=([0-9]+)(?:\.([0-9]+))?)?"
)
RESOURCES: Final = ("parties", "quotes", "transfers", "bulkQuotes", "bulkTransfers")
VERSIONS: Final = {
    "1.1": dict.fromkeys(RESOURCES, "1.1"),
    "2.0": dict.fromkeys(RESOURCES, "2.0"),
    "iso20022": dict.fromkeys(RESOURCES, "2.0"),
}


@dataclass(frozen=True, slots=True)
class MediaType:
    """A content type taken apart: ISO 20022 or plain, the resource, and its version."""

    iso: bool
    resource: str
    major: int | None
    minor: int | None


def parse_media_type(text: str) -> MediaType | None:
    """Return the parts of a content type, or None when it is not one of this standard."""
    match = _MEDIA.match(text.strip())
    if match is None:
        return None
    major, minor = match[3], match[4]
    return MediaType(
        bool(match[1]), match[2], int(major) if major else None, int(minor) if minor is not None else None
    )


def accepted(version: str) -> str:
    """Return the version to ask for in `Accept`: the major alone for 1.x, since the server then gives its newest minor."""
    major = version.partition(".")[0]
    return major if major == "1" else version


def offered_versions(body: Any) -> list[str]:
    """Return the versions a 406 answer says the other side speaks, from either shape of its extension list."""
    information = body.get("errorInformation") if isinstance(body, dict) else None
    listed = information.get("extensionList") if isinstance(information, dict) else None
    entries = listed.get("extension") if isinstance(listed, dict) else listed
    found = []
    for entry in entries if isinstance(entries, list) else ():
        key, value = (entry.get("key"), entry.get("value")) if isinstance(entry, dict) else (None, None)
        text = f"{key}.{value}"
        if re.fullmatch(r"[0-9]{1,2}\.[0-9]{1,2}", text):
            found.append(text)
    return found[:16]


def error_body(code: str, description: str) -> dict[str, Any]:
    """Return an error body as the standard has it; the description is at most 128 characters."""
    return {"errorInformation": {"errorCode": code, "errorDescription": description[:128]}}
