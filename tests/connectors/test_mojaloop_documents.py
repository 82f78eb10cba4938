"""The page on connecting a scheme names what there is, and its example order is one."""

import json
import re
from pathlib import Path

from canonical_model.payment import PaymentInstruction
from connectors.mojaloop import MojaloopConnector
from connectors.mojaloop.sandbox_scheme import Fault
from connectors.mojaloop.settings import MojaloopSettings

PAGE = (Path(__file__).parents[2] / "docs" / "connect-mojaloop.md").read_text()


def test_every_setting_is_on_the_page() -> None:
    assert [name for name in MojaloopSettings.model_fields if f"| `{name}` |" not in PAGE] == []


def test_the_faults_it_tries_are_faults_of_the_sandbox() -> None:
    section = PAGE[PAGE.index("| Fault |") : PAGE.index("## 5.")]
    named = re.findall(
        r"`([a-z-]+)`", "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    )
    assert {"silent", "lost"} <= set(named)
    assert [name for name in named if name not in set(Fault)] == []


def test_the_example_is_an_order_the_connector_takes() -> None:
    message = json.loads(re.findall(r"```json message\n(.*?)```", PAGE, re.DOTALL)[0])
    assert message["type"] in MojaloopConnector.manifest.sends
    assert PaymentInstruction.model_validate(message["data"]).amount.minor_units == 10150
