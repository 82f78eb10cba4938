"""The error tree, cut by what the engine should do next.

    HubError
    ├── ConfigError    wrong before anything ran; names the file and the key
    ├── Refused        the target or the hub said no to this message: no retry, show the reason
    ├── Unavailable    the target cannot now: retry, after `retry_after` seconds when known
    ├── Unknown        sent, no answer: ask the target before anything is sent again
    └── Defect         our fault: park the message, alert

Every error has a stable `code` (kebab-case, a page in docs/errors/), and `detail`, one or two sentences without personal
data: what happened, to which message on which route, what the hub did. `remedy` says what the operator can do.
"""

from __future__ import annotations

from typing import ClassVar


class HubError(Exception):
    """Something in the hub could not be done; catch this to catch every error the hub raises on purpose."""

    action: ClassVar[str] = "defect"
    default_code: ClassVar[str] = "internal-defect"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        remedy: str | None = None,
        retry_after: float | None = None,
        pointer: str | None = None,
    ) -> None:
        self.detail = detail or (self.__doc__ or "").splitlines()[0]
        self.code = code or self.default_code
        self.remedy = remedy
        self.retry_after = retry_after
        self.pointer = pointer
        """JSON Pointer (RFC 6901) of the offending place, where there is one."""
        super().__init__(self.detail)

    def __str__(self) -> str:
        text = f"{self.detail} [{self.code}]"
        return f"{text} {self.remedy}" if self.remedy else text


class ConfigError(HubError):
    """The configuration is wrong; nothing was started."""

    action = "config"
    default_code = "config-invalid"


class Refused(HubError):
    """The request was refused and will not be tried again."""

    action = "refused"
    default_code = "refused"


class Unavailable(HubError):
    """The target cannot answer now; the hub will try again."""

    action = "retry"
    default_code = "target-unavailable"


class Unknown(HubError):
    """The request was sent and no answer came; the hub asks before it sends again."""

    action = "ask"
    default_code = "outcome-unknown"


class Defect(HubError):
    """The hub itself is at fault; the message is parked and an operator is alerted."""

    action = "defect"
    default_code = "internal-defect"
