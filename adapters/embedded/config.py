"""The configuration a hub starts with when it was given none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from adapters.http.security.partners import Scope
from adapters.http.security.secrets import hash_secret, new_secret
from registry.vault import private_file

CIVIL_REGISTRY: Final = "civil-registry"
OPERATOR: Final = "operator"
PAYMENT_RAIL: Final = "payment-rail"
"""Who tells the embedded hub what became of payments."""
_NOTICE: Final = (
    "# Written by `hub serve` at its first start. Edit it freely: only targets/ is written again.\n"
)

_SCOPES: Final = {
    CIVIL_REGISTRY: ["messages:write", "messages:read", "dci.crvs.notify"],
    # Everything but messages of its own, names, and decisions, which need somebody else.
    OPERATOR: [
        scope.value
        for scope in Scope
        if scope not in {Scope.MESSAGES_WRITE, Scope.DCI_CRVS_NOTIFY}
        and scope.value.partition(":")[2] not in {"reveal", "approve", "redeem", "order"}
    ],
}
_SCOPES[PAYMENT_RAIL] = ["messages:write", "messages:read"]
_EVENTS: Final = "org.openspp.civil_event.*"
_PAYMENTS: Final = "org.openspp.payment"


def secret_of(data_dir: Path, client: str) -> str:
    """Return the generated secret of an embedded client (a file of mode 0600 in the data folder)."""
    return private_file(_secret_path(data_dir, client), new_secret().encode()).decode().strip()


def _secret_path(data_dir: Path, client: str) -> Path:
    folder = data_dir / "keys"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"{client}.secret"


def _routes(first_retry: str, paying: Mapping[str, dict[str, Any]] | None) -> dict[str, dict[str, Any]]:
    retry = {"attempts": 10, "first": first_retry, "longest": "1m", "within": "1d"}
    usual: dict[str, dict[str, Any]] = {
        "payments-to-bank": {
            "title": "A batch of payments becomes a file for the bank",
            "when": {"type": f"{_PAYMENTS}.batch_instructed.v1"},
            "to": "bank-files",
        },
        "payments-to-mobile-money": {
            "title": "Payments ordered one by one go to the mobile money service",
            "when": {"type": f"{_PAYMENTS}.instructed.v1"},
            "to": "mobile-money",
        },
    }
    orders = {
        name: {"retry": retry, "retention": "400d", **route} for name, route in (paying or usual).items()
    }
    return orders | {
        "civil-events-to-registry": {
            "title": "Births, deaths and the rest enter the hub's own registry",
            "when": {"type": _EVENTS},
            "to": "registry",
            "retry": retry,
            "retention": "400d",
        },
        "civil-events-to-health-ministry": {
            "title": "The ministry of health hears of births and deaths",
            "when": {"type": _EVENTS, "condition": 'data.event_type in ["birth", "death"]'},
            "to": "health-ministry",
            "retry": retry,
            "retention": "90d",
        },
        "civil-events-to-office": {
            "title": "The programme office gets a mail without personal data",
            "when": {"type": _EVENTS, "condition": 'data.event_type in ["birth", "death"]'},
            "to": "office-mail",
            "retry": retry,
            "retention": "90d",
        },
        "payment-results-to-registry": {
            "title": "What became of payments is reconciled by the programs",
            "when": {"type": [f"{_PAYMENTS}.result.v1", f"{_PAYMENTS}.results.v1"]},
            "to": "registry",
            "retry": retry,
            "retention": "400d",
        },
    }


def write_config(
    data_dir: Path,
    *,
    webhook: dict[str, Any],
    email: dict[str, Any],
    mobile: dict[str, Any] | None = None,
    rails: Mapping[str, tuple[str, dict[str, Any]]] | None = None,
    paying: Mapping[str, dict[str, Any]] | None = None,
    first_retry: str = "2s",
) -> Path:
    """Write routes and partners where absent and the sandboxes' targets always; return the configuration folder.

    `webhook`, `email` and `mobile` are the settings that reach the sandboxes of the ministry, the office and the mobile
    money service (the ministry's where it has none); their secrets go to files of mode 0600. Files for the bank go to
    `bank` in the data folder. `rails` are further targets that pay, each with its connector and settings; `paying` are
    the routes of payment orders, where not the bank's and mobile money's own.
    """
    folder = data_dir / "config"
    for name in ("routes", "targets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, route in _routes(first_retry, paying).items():
        _write(folder / "routes" / f"{name}.yaml", {"route": name, "version": 1, **route})
    partners = [
        {
            "name": name,
            "display": name.replace("-", " ").capitalize(),
            "clients": [{"id": name, "secret": hash_secret(secret_of(data_dir, name))}],
            "scopes": scopes,
            **({"dialect": {"name": "dci", "options": {"tolerant": True}}} if name == CIVIL_REGISTRY else {}),
        }
        for name, scopes in _SCOPES.items()
        if not (folder / "partners.yaml").exists()
    ]
    if partners:
        _write(folder / "partners.yaml", {"partners": partners})
    bank = data_dir / "bank"
    bank.mkdir(parents=True, exist_ok=True, mode=0o700)
    targets: dict[str, tuple[str, dict[str, Any], int]] = {
        "registry": ("registry", {}, 64),
        "health-ministry": ("webhook", _by_reference(data_dir, "health-ministry", webhook), 16),
        "office-mail": ("email", _by_reference(data_dir, "office-mail", email), 4),
        "mobile-money": ("webhook", _by_reference(data_dir, "mobile-money", mobile or webhook), 16),
        "bank-files": ("file", {"folder": str(bank.resolve()), "format": "csv"}, 2),
    }
    for name, (connector, settings) in (rails or {}).items():
        targets[name] = (connector, _by_reference(data_dir, name, settings), 16)
    for name, (connector, settings, concurrency) in targets.items():
        document = {
            "target": name,
            "connector": connector,
            "concurrency": concurrency,
            "timeout": "10s",
            "settings": settings,
        }
        _write(folder / "targets" / f"{name}.yaml", document, again=True)
    return folder


def _write(path: Path, document: dict[str, Any], *, again: bool = False) -> None:
    if again or not path.exists():
        path.write_text(
            _NOTICE + yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )


def _by_reference(data_dir: Path, target: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Move secrets out of settings into files, as a configuration must have them."""
    moved = dict(settings)
    for key in ("secrets", "bearer_token", "password", "signing_key", "client_secret", "callback_secret"):
        value = moved.get(key)
        if value is None:
            continue
        values = list(value) if isinstance(value, list | tuple) else [value]
        references = []
        for number, secret in enumerate(values):
            path = _secret_path(data_dir, f"{target}-{key}-{number}")
            path.unlink(missing_ok=True)
            private_file(path, str(secret).encode())
            references.append({"file": str(path.resolve())})
        moved[key] = references if isinstance(value, list | tuple) else references[0]
    return moved
