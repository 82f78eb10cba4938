"""How the refusals of programs, changes, duplicates, rules and attributes are answered over HTTP."""

from __future__ import annotations

from typing import Final

from adapters.http.catalog import declare

_REFUSALS: Final[dict[int, dict[str, str]]] = {
    403: {
        "approval-own": "Who made it cannot decide over it",
        "approval-role": "The step is for another role",
        "change-maker-checks": "The maker of a change cannot decide over it",
        "change-not-maker": "Only the maker can do this",
        "change-role-missing": "The change waits for another role",
        "partner-confined": "The partner sees a part of the registry only",
    },
    404: {
        "attribute-subject-unknown": "There is no such schema of attributes",
        "change-not-found": "There is no such change request",
        "duplicate-not-found": "There is no such pair",
        "batch-not-found": "There is no such batch",
        "cycle-not-found": "There is no such cycle",
        "dispute-not-found": "There is no such dispute",
        "entitlement-not-found": "There is no such entitlement",
        "import-file-missing": "There is no such file",
        "import-mapping-missing": "There is no such mapping",
        "fund-not-found": "There is no such fund",
        "payment-not-found": "There is no such payment",
        "program-not-found": "There is no such program",
        "top-up-not-found": "There is no such top-up",
    },
    409: {
        "attributes-busy": "Another process is making indexes",
        "attributes-incompatible": "Stored records do not fit the schema",
        "change-conflict": "Others changed the same since",
        "change-decided-twice": "Nobody decides twice",
        "change-id-reused": "The id was used before for another change",
        "change-state-wrong": "The change is in a state in which this cannot be done",
        "change-undone": "The change is undone already",
        "duplicate-decided": "The pair was decided over",
        "approval-taken": "Another step is next",
        "approval-twice": "The same person cannot take two steps",
        "batch-fetched": "The batch has gone out",
        "cycle-busy": "The cycle is busy",
        "cycle-incomplete": "The work before is not done",
        "cycle-overlaps": "Another cycle covers some of these days",
        "cycle-payments-open": "Payments have no outcome yet",
        "cycle-state": "The cycle is in a state in which this cannot be done",
        "dispute-decided": "The dispute was decided otherwise",
        "dispute-not-ours": "The dispute is about no payment of the hub",
        "entitlement-over": "The entitlement does not hold today",
        "entitlement-state": "The entitlement is in a state in which this cannot be done",
        "import-mapping-builtin": "The mapping comes with the hub",
        "fund-once-reused": "The key was used before for another move",
        "fund-overdrawn": "The fund does not hold enough",
        "payment-state": "The payment is in a state in which this cannot be done",
        "program-state": "The program is in a state in which this cannot be done",
        "program-target-fixed": "Whom a program enrolls cannot be changed",
        "top-up-decided": "The top-up was decided otherwise",
    },
    413: {"import-file-too-large": "The file is too large"},
    422: {
        "import-encoding-wrong": "The file is in another encoding",
        "import-file-broken": "The file is broken",
        "import-file-unreadable": "The file cannot be read",
        "import-header-invalid": "The header cannot be used",
        "import-header-missing": "The file has no header",
        "import-sheet-missing": "There is no such sheet",
        "attribute-schema-invalid": "The schema is not as it must be",
        "change-impossible": "The change cannot be made",
        "change-invalid": "The change is not as it must be",
        "decision-invalid": "The decision is none",
        "amount-invalid": "The amount is wrong",
        "amount-negative": "The amount is not above zero",
        "currency-mixed": "The currencies differ",
        "cycle-dates": "The days of the cycle are wrong",
        "cycle-empty": "The cycle has no entitlements",
        "fund-missing": "The program has no fund",
        "list-length": "The list is too long or empty",
        "program-invalid": "The program is not as it must be",
        "rule-failed": "A rule cannot be computed for somebody",
        "rule-invalid": "The rule cannot be read",
        "rule-name-unknown": "The rule names something that there is not",
        "rule-not-compilable": "The rule cannot be compiled",
        "rule-too-large": "The rule is too large",
        "rule-type-mismatch": "The types in the rule do not fit",
        "schedule-over": "The schedule has no further cycle",
        "settle-status": "A payment is not settled so",
        "voucher-invalid": "This is no voucher of the cycle",
    },
    503: {"rule-too-slow": "The rule takes too long"},
}


def declare_all() -> None:
    """Say how each of these codes is answered."""
    for status, titles in _REFUSALS.items():
        for code, title in titles.items():
            declare(code, status, title)
