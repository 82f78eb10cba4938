from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from pydantic import Field, SecretStr

from canonical_model.message import Message
from connectors.contract import Callback, Context, Health, Manifest, Receipt, Repeat, Settings
from connectors.discovery import contract_gap
from connectors.errors import ConfigError, Defect, Refused, Unavailable, Unknown
from connectors.runtime import ConnectorRuntime, TargetConfig, discover, load_targets
from connectors.targets import build_settings, seconds
from registry.logs import LogFormatter

SECRET_TEXT = "Amina Yusuf 4412"


class PlainSettings(Settings):
    url: str = "x"
    api_word: SecretStr | None = None
    nested: dict[str, SecretStr] = Field(default_factory=dict)


class Plain:
    manifest: ClassVar[Manifest] = Manifest(
        name="plain", version="1", title="plain", sends=("org.openspp.*",), repeat=Repeat.ASK
    )
    settings_model: ClassVar[type[Settings]] = PlainSettings

    def __init__(self, settings: PlainSettings) -> None:
        self.settings = settings
        self.opened = 0
        self.closed = 0
        self.inside = 0
        self.busiest = 0
        self.open_error: Exception | None = None
        self.act: Any = None

    async def open(self, ctx: Context) -> None:
        self.opened += 1
        if self.open_error:
            raise self.open_error

    async def close(self) -> None:
        self.closed += 1

    async def probe(self) -> Health:
        return Health(True)

    async def send(self, message: Message, deadline: float) -> Receipt:
        self.inside += 1
        self.busiest = max(self.busiest, self.inside)
        try:
            return await self.act() if self.act else Receipt("r")
        finally:
            self.inside -= 1

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        return await self.act() if self.act else None

    async def receive(self, callback: Callback) -> Sequence[Message]:
        return ()


def message() -> Message:
    return Message(source="/t", type="org.openspp.test.made.v1", data={"name": SECRET_TEXT})


async def opened(**kwargs: Any) -> tuple[ConnectorRuntime, Plain]:
    runtime = ConnectorRuntime([TargetConfig("t", "plain", **kwargs)], connectors={"plain": Plain})
    await runtime.open()
    inner = runtime.get("t")._inner
    assert isinstance(inner, Plain)
    return runtime, inner


def soon(after: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + after


async def test_a_receipt_comes_through_unchanged() -> None:
    runtime, _ = await opened()
    assert (await runtime.get("t").send(message(), soon())).reference == "r"
    await runtime.close()


async def test_a_foreign_exception_becomes_a_defect_without_its_text() -> None:
    runtime, inner = await opened()

    async def act() -> Receipt:
        raise ValueError(SECRET_TEXT)

    inner.act = act
    for call in (runtime.get("t").send, runtime.get("t").ask):
        with pytest.raises(Defect) as caught:
            await call(message(), soon())
        assert caught.value.code == "connector-defect"
        assert "ValueError" in str(caught.value)
        assert SECRET_TEXT not in str(caught.value)
        assert caught.value.__suppress_context__
    await runtime.close()


async def test_a_send_broken_off_at_its_deadline_is_unknown_whatever_the_connector_makes_of_it() -> None:
    runtime, inner = await opened()

    async def act() -> Receipt:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError(SECRET_TEXT) from None
        return Receipt()

    inner.act = act
    with pytest.raises(Unknown):
        await runtime.get("t").send(message(), soon(0.02))
    await runtime.close()


async def test_hub_errors_pass_through_as_they_are() -> None:
    runtime, inner = await opened()

    async def act() -> Receipt:
        raise Refused("no", code="x")

    inner.act = act
    with pytest.raises(Refused, match="no"):
        await runtime.get("t").send(message(), soon())
    await runtime.close()


async def test_a_send_past_its_deadline_is_unknown() -> None:
    runtime, inner = await opened()

    async def act() -> Receipt:
        await asyncio.Event().wait()
        return Receipt()

    inner.act = act
    with pytest.raises(Unknown) as caught:
        await runtime.get("t").send(message(), soon(0.02))
    assert caught.value.code == "outcome-unknown"
    await runtime.close()


async def test_the_targets_own_timeout_ends_a_send_before_a_later_deadline() -> None:
    runtime, inner = await opened(timeout=0.05)

    async def act() -> Receipt:
        await asyncio.Event().wait()
        return Receipt()

    inner.act = act
    async with asyncio.timeout(2):
        with pytest.raises(Unknown):
            await runtime.get("t").send(message(), soon(60))
    await runtime.close()


async def test_a_timeout_error_of_the_connector_itself_is_its_defect() -> None:
    runtime, inner = await opened()

    async def act() -> Receipt:
        raise TimeoutError

    inner.act = act
    with pytest.raises(Defect):
        await runtime.get("t").send(message(), soon())
    await runtime.close()


async def test_a_send_that_never_began_is_unavailable_and_concurrency_is_bounded() -> None:
    runtime, inner = await opened(concurrency=2)
    free = asyncio.Event()

    async def act() -> Receipt:
        await free.wait()
        return Receipt()

    inner.act = act
    running = [asyncio.create_task(runtime.get("t").send(message(), soon())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as caught:
        await runtime.get("t").send(message(), soon(0.02))
    assert caught.value.code == "target-busy"
    free.set()
    await asyncio.gather(*running)
    assert inner.busiest == 2
    await runtime.close()


async def test_an_absent_target_does_not_stop_the_start_and_is_opened_later() -> None:
    runtime = ConnectorRuntime([TargetConfig("t", "plain")], connectors={"plain": Plain})
    target = runtime.get("t")
    inner = target._inner
    assert isinstance(inner, Plain)
    inner.open_error = Unavailable("away")
    await runtime.open()
    with pytest.raises(Unavailable) as caught:
        await target.send(message(), soon())
    assert caught.value.retry_after is not None
    inner.open_error = None
    target._not_before = 0.0
    assert await target.send(message(), soon())
    assert inner.opened == 2
    await runtime.close()


async def test_wrong_configuration_stops_the_start_and_closes_what_was_open() -> None:
    runtime = ConnectorRuntime(
        [TargetConfig("a", "plain"), TargetConfig("b", "plain")], connectors={"plain": Plain}
    )
    bad = runtime.get("b")._inner
    good = runtime.get("a")._inner
    assert isinstance(bad, Plain)
    assert isinstance(good, Plain)
    bad.open_error = ConfigError("wrong", code="c")
    with pytest.raises(ConfigError, match="wrong"):
        await runtime.open()
    assert good.closed == 1


async def test_probe_all_names_every_target_and_never_raises() -> None:
    runtime, inner = await opened()

    async def broken() -> Health:
        raise KeyError(SECRET_TEXT)

    inner.probe = broken  # type: ignore[method-assign]
    found = await runtime.probe_all()
    assert set(found) == {"t"}
    assert not found["t"].ok
    assert SECRET_TEXT not in found["t"].detail
    await runtime.close()
    await runtime.close()


async def test_a_closed_target_is_unavailable() -> None:
    runtime, _ = await opened()
    target = runtime.get("t")
    await runtime.close()
    with pytest.raises(Unavailable):
        await target.send(message(), soon())


def test_an_unknown_connector_or_target_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        ConnectorRuntime([TargetConfig("t", "nope")], connectors={"plain": Plain})
    assert caught.value.code == "connector-unknown"
    with pytest.raises(ConfigError) as caught:
        ConnectorRuntime([], connectors={}).get("t")
    assert caught.value.code == "target-unknown"


def test_the_operators_word_on_repeats_overrides_the_manifest() -> None:
    runtime = ConnectorRuntime([TargetConfig("t", "plain", repeat=Repeat.NEVER)], connectors={"plain": Plain})
    assert runtime.get("t").repeat is Repeat.NEVER


GOOD = """
target: ministry-health
connector: plain
concurrency: 32
timeout: 10s
settings:
  url: https://example.org/in
  api_word: {env: TEST_TARGET_WORD}
  nested: {k: {file: word.txt}}
"""


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    (folder / name).write_text(text)
    return folder


def test_a_target_file_is_read_and_its_references_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_TARGET_WORD", "from-env")
    (tmp_path / "word.txt").write_text("from-file\n")
    (target,) = load_targets(write(tmp_path, GOOD))
    assert (target.name, target.concurrency, target.timeout) == ("ministry-health", 32, 10.0)
    settings = build_settings(target, Plain)
    assert isinstance(settings, PlainSettings)
    assert settings.api_word is not None
    assert settings.api_word.get_secret_value() == "from-env"
    assert settings.nested["k"].get_secret_value() == "from-file"
    assert "from-env" not in repr(target) + repr(settings)


@pytest.mark.parametrize(
    "line",
    [
        "password: hunter2",
        "api_key: k-123",
        "deep: {client_secret: abc}",
        "url: https://u:p@example.org/",
        "secrets: [a]",
    ],
)
def test_a_secret_in_clear_is_refused_without_being_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_targets(write(tmp_path, f"target: t\nconnector: plain\nsettings: {{{line}}}\n"))
    assert caught.value.code == "secret-in-config"
    for secret in ("hunter2", "k-123", "abc", "u:p"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("settings", [{"api_word": "clear"}, {"nested": {"k": "clear"}}])
def test_a_secret_field_of_the_model_takes_no_literal(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        build_settings(TargetConfig("t", "plain", settings, origin=Path("t.yaml")), Plain)
    assert caught.value.code == "secret-in-config"
    assert "clear" not in caught.value.detail.replace("in clear", "")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("target: T\nconnector: plain", "target"),
        ("target: t", "connector"),
        ("target: t\nconnector: plain\ntimeout: soon", "timeout"),
        ("target: t\nconnector: plain\nconcurrency: 0", "concurrency"),
        ("target: t\nconnector: plain\nconcurency: 3", "concurency"),
        ("target: t\nconnector: plain\nrepeat: maybe", "repeat"),
        ("[1", "(file)"),
        ("- a", "(file)"),
    ],
)
def test_a_wrong_target_file_names_the_file_and_the_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_targets(write(tmp_path, text))
    assert "a.yaml" in caught.value.detail
    assert f"`{key}`" in caught.value.detail


def test_two_files_may_not_configure_the_same_target(tmp_path: Path) -> None:
    write(tmp_path, "target: t\nconnector: plain")
    with pytest.raises(ConfigError):
        load_targets(write(tmp_path, "target: t\nconnector: plain", "b.yaml"))


@pytest.mark.parametrize("reference", [{"env": "TEST_NOT_SET_ANYWHERE"}, {"file": "/nowhere/secret"}])
def test_a_missing_secret_is_found_before_anything_runs(reference: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        ConnectorRuntime([TargetConfig("t", "plain", {"api_word": reference})], connectors={"plain": Plain})
    assert caught.value.code == "secret-missing"


def test_wrong_settings_name_the_key_and_hide_the_value() -> None:
    with pytest.raises(ConfigError) as caught:
        build_settings(TargetConfig("t", "plain", {"url": {"a": SECRET_TEXT}}), Plain)
    assert "settings.url" in caught.value.detail
    assert SECRET_TEXT not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("10s", 10.0), ("500ms", 0.5), ("2m", 120.0), (3, 3.0), ("1.5 s", 1.5), ("x", None), (True, None)],
)
def test_durations_are_read_in_seconds(text: Any, value: float | None) -> None:
    assert seconds(text) == value


def test_the_built_in_webhook_is_discovered_and_a_broken_package_is_only_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[openspp.connectors]\nacme = acme_missing:Nope\nwebhook = json:JSONDecoder\nodd = json:JSONDecoder\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    broken: list[tuple[str, str]] = []
    found = discover(lambda b: broken.append((b.name, b.package)))
    assert found["webhook"].__module__.startswith("connectors.webhook")
    assert {("acme", "acme"), ("odd", "acme"), ("webhook", "acme")} <= set(broken)


def test_the_contract_gap_of_a_class_is_named() -> None:
    assert contract_gap(Plain) is None
    assert "manifest" in str(contract_gap(dict))


async def test_a_target_away_at_the_start_is_told_by_event_name_target_and_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = ConnectorRuntime([TargetConfig("t", "plain")], connectors={"plain": Plain})
    inner = runtime.get("t")._inner
    assert isinstance(inner, Plain)
    inner.open_error = Unavailable(SECRET_TEXT, code="target-unavailable")
    await runtime.open()
    await runtime.close()
    (record,) = (one for one in caplog.records if one.name == "openspp.connectors")
    line = orjson.loads(LogFormatter().format(record))
    assert (line["event"], line["target"], line["code"]) == (
        "target-away-at-start",
        "t",
        "target-unavailable",
    )
