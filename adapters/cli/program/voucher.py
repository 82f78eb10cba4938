"""`hub program voucher`: the public key of a cycle's vouchers, and checking codes with it, without a connection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from adapters.cli.output import OUT, print_json
from adapters.cli.program.shared import CycleName, Json, cycle_of, run, say
from adapters.hub import Hub
from canonical_model.errors import ConfigError
from registry.programs import VoucherChecker

app = typer.Typer(no_args_is_help=True)
_MOST_BYTES = 16 * 1024


@app.command("key")
def key_command(name: CycleName, as_json: Json = False) -> None:
    """Print the public key of a cycle's vouchers as a JSON Web Key; it checks the codes under `signed` and makes none.

    Example: hub program voucher key food/1 > food-1.json
    """

    async def work(hub: Hub) -> dict[str, str]:
        cycle = await cycle_of(hub.programs, name)
        return await hub.programs.voucher_key(cycle.id)

    found = run(work)
    if as_json:
        print_json(found)
    else:
        OUT.print(orjson.dumps(found).decode(), markup=False, soft_wrap=True)


@app.command("check")
def check_command(
    code: Annotated[str, typer.Argument(metavar="CODE", help="The code as it is under `signed`.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="The key `hub program voucher key` printed.")],
    as_json: Json = False,
) -> None:
    """Check a signed code with the public key, without a connection; whether it was taken before only the hub knows.

    Example: hub program voucher check 0A1B-2C3D --key food-1.json
    """
    try:
        raw = key.read_bytes()[:_MOST_BYTES]
        jwk: Any = orjson.loads(raw)
    except (OSError, orjson.JSONDecodeError):
        raise ConfigError(
            f"The file {key} cannot be read, or is no JSON.",
            code="key-file-invalid",
            remedy="Use what `hub program voucher key CYCLE` prints, as it is.",
        ) from None
    voucher = VoucherChecker.of(jwk).read(code)
    said = {
        "number": voucher.number,
        "amount": voucher.amount,
        "valid_until": voucher.valid_until.isoformat(),
    }
    say(said, as_json)
