"""`python -m connectors.mojaloop`: a Mojaloop sandbox to connect a hub to, and the target file that reaches it."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from connectors.mojaloop.sandbox_adapter import AdapterSandbox
from connectors.mojaloop.sandbox_http import SchemeSandbox
from connectors.mojaloop.sandbox_scheme import Fault
from connectors.payments import standalone

_FRAME: Final = {"connector": "mojaloop", "concurrency": 64, "timeout": "30s"}
_SECRETS: Final = {"signing_key": "payer-jws.pem", "client_secret": "client-secret"}


async def serve(arguments: argparse.Namespace) -> None:
    """Run a sandbox until the process is told to stop."""
    callbacks = standalone.callbacks_of(arguments)
    sandbox: SchemeSandbox | AdapterSandbox
    if arguments.adapter:
        sandbox = AdapterSandbox(fee=arguments.fee)
        sandbox.calls_back_to(callbacks)
    else:
        sandbox = SchemeSandbox(
            version=arguments.version, algorithm=arguments.algorithm, callbacks=callbacks, fee=arguments.fee
        )
    sandbox.port = arguments.port
    for payee, fault in arguments.fault:
        (sandbox.scheme.faults.setdefault(payee, set()) if payee else sandbox.scheme.every).add(fault)
    await sandbox.start()
    settings = sandbox.settings() | ({"bulk": True} if arguments.adapter else {})
    target = await asyncio.to_thread(
        standalone.write_target, arguments.folder, arguments.target, _FRAME, settings, _SECRETS
    )
    await standalone.serve_until_told(sandbox, target)


def main() -> None:
    """Read the command line and serve."""
    parser = standalone.parser_of(
        "python -m connectors.mojaloop", __doc__, Fault, target="national-switch", port=4003
    )
    parser.add_argument(
        "--adapter",
        action="store_true",
        help="be an institution's scheme adapter that takes bulk transactions, in place of a switch",
    )
    parser.add_argument("--version", choices=("1.1", "2.0", "iso20022"), default="1.1")
    parser.add_argument("--algorithm", choices=("RS256", "ES256"), default="RS256")
    parser.add_argument("--fee", type=int, default=0, help="fee of each payment, in minor units")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
