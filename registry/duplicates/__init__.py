"""Duplicates: people who may be registered twice, and what was decided of them."""

from registry.duplicates.finding import DuplicateFinder, Tally
from registry.duplicates.scoring import Reason
from registry.duplicates.store import STATES, DuplicateStore, Pair

__all__ = ["STATES", "DuplicateFinder", "DuplicateStore", "Pair", "Reason", "Tally"]
