"""The console: pages by which an operator sees flows, follows a message and deals with dead letters."""

from adapters.console.session import issue_login_link
from adapters.console.views import Console, extend

__all__ = ["Console", "extend", "issue_login_link"]
