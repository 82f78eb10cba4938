"""Change requests: asked for by one, agreed to by others, carried out once, taken back the same way."""

from registry.changes.applying import Difference
from registry.changes.policy import Policies, Policy, load_policies
from registry.changes.request import STATES, Decision, Preview, Request
from registry.changes.store import ChangeStore

__all__ = [
    "STATES",
    "ChangeStore",
    "Decision",
    "Difference",
    "Policies",
    "Policy",
    "Preview",
    "Request",
    "load_policies",
]
