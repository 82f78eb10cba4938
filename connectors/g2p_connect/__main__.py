"""`python -m connectors.g2p_connect`: a system that speaks G2P Connect to connect a hub to, and the target file that reaches it."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from connectors.g2p_connect.disburse_peer import DisbursePeer, Fault
from connectors.payments import standalone

_FRAME: Final = {"connector": "g2p_connect", "concurrency": 16, "timeout": "30s"}
_SECRETS: Final = {"signing_key": "signing.pem", "client_secret": "client-secret"}


async def serve(arguments: argparse.Namespace) -> None:
    """Run a sandbox until the process is told to stop."""
    peer = DisbursePeer()
    peer.port = arguments.port
    for payee, fault in arguments.fault:
        peer.misbehave(payee, fault)
    await peer.start()
    settings = peer.settings() | {
        "callback_url": standalone.callbacks_of(arguments),
        "first_ask": arguments.first_ask,
    }
    target = await asyncio.to_thread(
        standalone.write_target, arguments.folder, arguments.target, _FRAME, settings, _SECRETS
    )
    await standalone.serve_until_told(peer, target)


def main() -> None:
    """Read the command line and serve."""
    parser = standalone.parser_of(
        "python -m connectors.g2p_connect", __doc__, Fault, target="g2p-connect", port=4005
    )
    parser.add_argument("--first-ask", type=float, default=5.0, help="seconds to the first question")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
