"""`python -m connectors.payment_hub_ee`: a Payment Hub EE sandbox to connect a hub to, and the target file that reaches it."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from connectors.payment_hub_ee.sandbox_books import Fault
from connectors.payment_hub_ee.sandbox_http import INSTITUTION, PROGRAM, DeploymentSandbox
from connectors.payments import standalone

_FRAME: Final = {"connector": "payment_hub_ee", "concurrency": 16, "timeout": "60s"}
_SECRETS: Final = {"signing_key": "signing.key", "callback_secret": "callback-secret", "password": "password"}


async def serve(arguments: argparse.Namespace) -> None:
    """Run a sandbox until the process is told to stop."""
    sandbox = DeploymentSandbox(
        sub_batch_size=arguments.sub_batch_size,
        csv_size=arguments.csv_size,
        login=True,
        callbacks=standalone.callbacks_of(arguments),
    )
    sandbox.port = arguments.port
    for payee, fault in arguments.fault:
        (sandbox.books.faults[payee] if payee else sandbox.books.every).add(fault)
    await sandbox.start()
    settings = sandbox.settings() | {"first_ask": arguments.first_ask, "authorizes": arguments.authorize}
    if arguments.mapper:
        settings |= {"registering_institution": INSTITUTION, "program": PROGRAM, "decimals": "channel"}
    if arguments.authorize:
        secret = settings["callback_secret"]
        sandbox.authorize_at = f"{settings['callback_url']}/funds/{secret}"
    target = await asyncio.to_thread(
        standalone.write_target, arguments.folder, arguments.target, _FRAME, settings, _SECRETS
    )
    await standalone.serve_until_told(sandbox, target)


def main() -> None:
    """Read the command line and serve."""
    parser = standalone.parser_of(
        "python -m connectors.payment_hub_ee", __doc__, Fault, target="payment-hub", port=4004
    )
    parser.add_argument(
        "--sub-batch-size", type=int, default=5, help="rows above which a file is split; 0: never"
    )
    parser.add_argument("--csv-size", type=int, default=100_000, help="bytes of the largest file")
    parser.add_argument("--first-ask", type=float, default=2.0, help="seconds to the first reconciliation")
    parser.add_argument(
        "--mapper", action="store_true", help="pay functional ids, found in the account mapper"
    )
    parser.add_argument("--authorize", action="store_true", help="ask the hub to authorise every batch")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
