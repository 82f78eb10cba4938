"""The account mapper: which financial address an id is paid at, sealed, dated, with its history."""

from registry.accounts.store import (
    ADDRESS_CODE,
    DATES_CODE,
    ID_CODE,
    LINKED_CODE,
    MANY,
    REPEATED_CODE,
    UNLINKED_CODE,
    Accounts,
    Link,
    Linked,
    Question,
    Resolved,
)
from registry.accounts.strategies import LONGEST, Read, Strategy, StrategyBook, parse, shipped

__all__ = [
    "ADDRESS_CODE",
    "DATES_CODE",
    "ID_CODE",
    "LINKED_CODE",
    "LONGEST",
    "MANY",
    "REPEATED_CODE",
    "UNLINKED_CODE",
    "Accounts",
    "Link",
    "Linked",
    "Question",
    "Read",
    "Resolved",
    "Strategy",
    "StrategyBook",
    "parse",
    "shipped",
]
