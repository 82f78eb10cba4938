"""A hub whose settings name an ID system asks it over the configured route, in every role."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from services import id_connector

from adapters.hub import Hub, Role
from canonical_model.errors import ConfigError, Refused, Unavailable
from canonical_model.message import uuid7
from registry.settings import HubSettings

TOKEN = "PSUT-55-0199"
ROUTE = """
route: identities
when:
  type: org.openspp.verification.requested.v1
to: id
retry:
  attempts: 1
"""


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubSettings:
    id_connector.install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    id_connector.SYSTEM.people = {TOKEN: {"names": [{"given_name": "Zephyrine"}]}}
    for name in ("routes", "targets"):
        (tmp_path / "config" / name).mkdir(parents=True)
    (tmp_path / "config" / "routes" / "identities.yaml").write_text(ROUTE)
    (tmp_path / "config" / "targets" / "id.yaml").write_text("target: id\nconnector: id-sandbox\n")
    return HubSettings(
        database_url=database_url,
        data_dir=tmp_path,
        reference_system="psa",
        reference_identifier=id_connector.TOKEN_TYPE,
        reference_deadline=3,
    )


@pytest.mark.parametrize("deliver", [None, Role.API, Role.ALL], ids=["command", "api", "all"])
async def test_every_process_of_a_hub_reveals_by_asking_the_id_system(
    settings: HubSettings, deliver: Role | None
) -> None:
    hub = Hub(settings, deliver or Role.ALL)
    await hub.open(deliver=deliver is not None)
    try:
        token = {"id_type": "psut", "namespace": id_connector.TOKEN_TYPE, "value": TOKEN}
        said = {"identifiers": [token], "names": [{"given_name": "Planted"}]}
        done = await hub.people.upsert(said, source="urn:x", message_id=uuid7(), at=datetime.now(UTC))
        assert done.id is not None
        shown = await hub.people.reveal(done.id, "complaint 12", "user:clerk")
        assert shown is not None
        assert shown.names[0].given_name == "Zephyrine"  # type: ignore[union-attr]
        with pytest.raises(Refused) as caught:
            await hub.people.search.by_name("Zephyrine", purpose="p", actor="a")
        assert caught.value.code == "name-search-unavailable"
    finally:
        await hub.close()


async def test_a_hub_without_a_route_to_the_id_system_says_so(settings: HubSettings, tmp_path: Path) -> None:
    (tmp_path / "config" / "routes" / "identities.yaml").unlink()
    hub = Hub(settings)
    await hub.open(deliver=False)
    try:
        token = {"id_type": "psut", "namespace": id_connector.TOKEN_TYPE, "value": TOKEN}
        done = await hub.people.upsert({"identifiers": [token]}, source="urn:x", message_id=uuid7())
        assert done.id is not None
        with pytest.raises(Unavailable) as caught:
            await hub.people.reveal(done.id, "complaint 12", "user:clerk")
        assert caught.value.code == "identity-unavailable"
        assert "no-route" in caught.value.detail
    finally:
        await hub.close()


async def test_an_id_system_without_a_token_to_ask_with_is_refused_at_the_start(
    settings: HubSettings,
) -> None:
    hub = Hub(settings.model_copy(update={"reference_identifier": None}))
    with pytest.raises(ConfigError) as caught:
        await hub.open(deliver=False)
    assert caught.value.code == "settings-invalid"
