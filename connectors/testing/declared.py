"""Bronze properties: what a connector declares about itself."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from connectors.contract import Receipt
from connectors.discovery import contract_gap
from connectors.errors import ConfigError, HubError, Unavailable
from connectors.testing.kit import Kit, expect, told
from connectors.testing.properties import PROPERTIES, TIERS, holds

README_SECTIONS: Final = ("What it does", "Example", "Settings", "Limits", "Sandbox")
_SECRET_NAME: Final = re.compile(
    r"(^|_)(password|passphrase|secrets?|token|api_?key|private_?key|credentials?)$", re.IGNORECASE
)
_SEND_GLOB: Final = re.compile(r"org\.openspp\.[a-z0-9_.*?]+")


@holds("bronze")
async def the_manifest_is_complete(kit: Kit) -> None:
    """The manifest names the connector, its version, what it sends, what it was tested with, and its exemptions."""
    manifest = kit.connector.manifest
    expect(
        re.fullmatch(r"[a-z][a-z0-9_-]*", manifest.name) is not None,
        "a name of lower-case letters, digits, hyphens and underscores.",
        manifest.name,
    )
    expect(
        re.fullmatch(r"\d+\.\d+\.\d+.*", manifest.version) is not None,
        "a version such as 1.0.0.",
        manifest.version,
    )
    expect(bool(manifest.title.strip()), "a title.")
    expect(bool(manifest.sends), "at least one message type in `sends`.")
    wrong = [kind for kind in manifest.sends if not _SEND_GLOB.fullmatch(kind)]
    expect(not wrong, "every entry of `sends` to start with org.openspp.", wrong)
    expect(bool(manifest.targets), "the versions of the outside system it was tested with, in `targets`.")
    expect(manifest.tier in TIERS, f"`tier` to be one of {', '.join(TIERS)}.", manifest.tier)
    known = {found.name: found for found in PROPERTIES}
    for name, reason in manifest.exempt.items():
        expect(name in known, "`exempt` to name properties of the kit.", name)
        expect(known[name].exemptable, "no exemption from a property that keeps people safe.", name)
        expect(len(reason) >= 10, "a reason for each exemption.", name)


@holds("bronze")
async def the_contract_is_kept(kit: Kit) -> None:
    """The class has every method of the contract, all of them coroutines."""
    gap = contract_gap(kit.connector)
    expect(gap is None, "a class that keeps the contract.", gap)
    names = ("open", "close", "probe", "send", "ask", "receive")
    plain = [name for name in names if not inspect.iscoroutinefunction(getattr(kit.connector, name))]
    expect(not plain, "coroutines (`async def`).", plain)


@holds("bronze", exemptable=False)
async def secrets_are_typed_as_secrets(kit: Kit) -> None:
    """Every setting that holds a secret is a SecretStr, and printing the settings shows none."""
    schema = kit.connector.settings_model.model_json_schema()
    clear = [
        name
        for name, inner in _leaves(schema, schema)
        if _SECRET_NAME.search(name) and not inner.get("writeOnly")
    ]
    expect(not clear, "these settings to be SecretStr.", clear)
    async with kit.bench(opened=False) as bench:
        settings = kit.read_settings(bench.sandbox)
        shown = f"{settings!r} {settings} {settings.model_dump_json()}"
        expect(
            not any(secret in shown for secret in bench.sandbox.secrets()), "no secret in the settings' text."
        )


@holds("bronze")
async def wrong_settings_fail_early(kit: Kit) -> None:
    """An unknown setting is refused when settings are read, and a target that is not there fails in open."""
    async with kit.bench(opened=False) as bench:
        try:
            kit.connector.settings_model.model_validate(
                kit.raw_settings(bench.sandbox) | {"no_such_setting": 1}
            )
        except ValidationError:
            pass
        else:
            expect(False, "an unknown setting to be refused (inherit from connectors.Settings).")
        await bench.sandbox.stop()
        try:
            async with asyncio.timeout(15):
                await bench.connector.open(bench.context)
        except (ConfigError, Unavailable):
            return
        except Exception as error:
            expect(
                False, "open to raise ConfigError or Unavailable when nobody listens.", type(error).__name__
            )
        expect(False, "open to fail when nobody listens.")


@holds("bronze")
async def a_message_is_sent(kit: Kit) -> None:
    """A message reaches the sandbox and gives a receipt with the exchange that was made."""
    async with kit.bench() as bench:
        receipt = await bench.send()
        expect(isinstance(receipt, Receipt), "a Receipt.", type(receipt).__name__)
        expect(len(bench.sandbox.received) == 1, "one message in the sandbox.", len(bench.sandbox.received))
        expect(bool(receipt.exchanges), "the exchange to be recorded in the receipt.")
        queries = [exchange.address for exchange in receipt.exchanges if "?" in exchange.address]
        expect(not queries, "addresses without query strings.")


@holds("bronze")
async def every_canonical_field_is_mapped_or_listed_as_lost(kit: Kit) -> None:
    """Where the connector maps a canonical model, each field is mapped or listed as lost with a reason.

    A connector that maps declares `fields`: canonical model class to (mapped names, {lost name: reason}). One that
    passes messages on as they are declares nothing.
    """
    declared: Mapping[Any, Any] = getattr(kit.connector, "fields", {})
    for model, (mapped, lost) in declared.items():
        missing = set(model.model_fields) - set(mapped) - set(lost)
        expect(not missing, f"every field of {model.__name__} in mapped or lost.", sorted(missing))
        unknown = (set(mapped) | set(lost)) - set(model.model_fields)
        expect(not unknown, f"only fields {model.__name__} has.", sorted(unknown))
        expect(all(len(reason) > 3 for reason in lost.values()), "a reason for each lost field.")


@holds("bronze")
async def every_library_exception_is_mapped(kit: Kit) -> None:
    """Each exception of the client library becomes a hub error that does not repeat its text.

    The connector declares `library_errors`, the library's base exceptions, and `map_error(error)`, a static method.
    """
    roots: Iterable[type[BaseException]] = getattr(kit.connector, "library_errors", ())
    mapper = getattr(kit.connector, "map_error", None)
    expect(bool(roots) and callable(mapper), "`library_errors` and `map_error` on the connector class.")
    if mapper is None:
        return
    for kind in {found for root in roots for found in _family(root)}:
        sample = _sample(kind)
        try:
            mapped = mapper(sample)
        except Exception as error:
            expect(False, f"{kind.__name__} to be mapped.", type(error).__name__)
        else:
            expect(
                isinstance(mapped, HubError), f"{kind.__name__} to become a hub error.", type(mapped).__name__
            )
            expect("planted-text" not in told(mapped), f"the text of {kind.__name__} to be left out.")


@holds("bronze")
async def the_documentation_is_there(kit: Kit) -> None:
    """README.md has the five sections and names every setting."""
    readme = kit.folder / "README.md"
    expect(readme.is_file(), "a README.md beside connector.py.")
    text = await asyncio.to_thread(readme.read_text, encoding="utf-8")
    missing = [
        section for section in README_SECTIONS if not re.search(rf"^#+ {section}\b", text, re.MULTILINE)
    ]
    expect(not missing, f"the sections {', '.join(README_SECTIONS)}.", f"missing {missing}")
    silent = [name for name in kit.connector.settings_model.model_fields if f"`{name}`" not in text]
    expect(not silent, "every setting to be named in it.", f"missing {silent}")


def _leaves(
    schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        for choice in (inner, *inner.get("anyOf", ())):
            found = root["$defs"][choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice
            items = found.get("items") or found.get("additionalProperties")
            found = items if isinstance(items, dict) else found
            if found.get("properties") and depth < 8:
                yield from _leaves(found, root, depth + 1)
            elif found.get("type") == "string":
                yield name, found


def _family(root: type[BaseException]) -> Iterator[type[BaseException]]:
    library = root.__module__.partition(".")[0]
    pending = [root]
    while pending:
        kind = pending.pop()
        if kind.__module__.partition(".")[0] == library:
            yield kind
        pending.extend(kind.__subclasses__())


def _sample(kind: type[BaseException]) -> BaseException:
    """Return an instance without calling its constructor, which may want arguments only the library has."""
    sample = kind.__new__(kind)
    sample.args = ("planted-text",)
    for name, value in (("code", 550), ("message", "planted-text"), ("status", 500), ("recipients", [])):
        # A property is computed by the class itself.
        if not isinstance(getattr(kind, name, None), property):
            setattr(sample, name, value)
    return sample
