"""Payments by files: each in one file, once, and ended by what the bank's own files say."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from services.bank import PAIN, BankPath
from services.payments import instruction

from canonical_model.errors import ConfigError, Refused
from connectors.bank_file import BankFileSettings
from connectors.bank_file.pickup import read_back
from connectors.bank_file.reports import read
from routing.ledger_desk import Desk


@pytest.fixture
async def path(database_url: str, tmp_path: Path) -> AsyncIterator[BankPath]:
    async with BankPath(database_url, tmp_path, **PAIN) as found:
        yield found


def order(number: int, **change: Any) -> dict[str, Any]:
    account = {"kind": "bank", "account_number": f"{1000 + number}", "provider": "COOPKENA"}
    name = {"full_name": f"Amina <{number}> & Sons"}
    return instruction(number) | {"payee_account": account, "payee_name": name} | change


async def test_a_batch_is_one_file_that_the_bank_takes_and_its_report_ends_each_payment(
    path: BankPath,
) -> None:
    path.desk.rejects["1002"] = "AC04"
    path.desk.fee = "0.50"
    await path.instruct(path.order([order(1), order(2), order(3)]))
    (file,) = await path.written(1)
    assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
    path.desk.work()
    await path.reach(paid=2, failed=1)
    batch = await path.closed()
    assert (batch["paid"], batch["failed"], batch["paid_units"]) == (2, 1, 101 + 103)
    failed, paid = await path.one("P-2"), await path.one("P-1")
    assert (failed["reason"], paid["fee"]) == ("AC04", 50)
    assert paid["rail_reference"].startswith("BK")
    assert path.desk.orders[0]["name"] == "Amina <1> & Sons"
    assert sorted(one.name for one in (path.back / "done").iterdir()) == [f"report-{file.name}"]


async def test_what_the_form_cannot_say_fails_before_anything_is_sent(path: BankPath) -> None:
    long = {"kind": "bank", "account_number": "9" * 35}
    await path.instruct(
        path.order(
            [order(1), order(2, payee_account=None), order(3, payee_name=None), order(4, payee_account=long)]
        )
    )
    await path.reach(sent=1, failed=3)
    reasons = await path.pool.fetch("SELECT reason FROM transfer WHERE state = 'failed' ORDER BY payment_id")
    assert [row[0] for row in reasons] == ["account-missing", "payee-unnamed", "account-too-long"]
    await path.written(1)
    path.desk.work()
    assert len(path.desk.paid) == 1


async def test_currencies_days_and_batches_have_groups_of_their_own_and_the_sums_agree(
    path: BankPath,
) -> None:
    yen = {"amount": {"minor_units": 7, "currency": "JPY"}}
    dinar = {"amount": {"minor_units": 1234, "currency": "BHD"}}
    for number, change in enumerate(({}, yen, dinar, {"execution_date": "2026-02-01"}), 1):
        rows = [order(number, **change)]
        total = rows[0]["amount"]
        await path.driver.stop()
        await path.instruct(path.order(rows, f"B-{number}", total=total))
    path.driver.start()
    await path.written(1)
    path.desk.work()
    assert sorted(path.desk.paid.values()) == ["1.01 KES", "1.04 KES", "1.234 BHD", "7 JPY"]


@pytest.mark.parametrize("moment", ["beside", "landing", "landed"])
async def test_killed_while_a_file_is_handed_over_each_payment_is_in_one_file(
    path: BankPath, database_url: str, tmp_path: Path, moment: str
) -> None:
    await path.driver.stop()
    root = Path(__file__).parents[2]
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.bank", database_url, str(tmp_path), moment,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(root / "tests"), str(root)))},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert worker.stdout is not None
    assert await asyncio.wait_for(worker.stdout.readline(), 60) == b"ready\n"
    await path.instruct(path.order([order(n) for n in range(1, 21)]))
    assert await asyncio.wait_for(worker.wait(), 30) == -signal.SIGKILL
    # The bank may have the file by now and have taken it away.
    path.desk.work(report=False)
    await path.pool.execute(
        "UPDATE transfer SET due_at = now(), leased_until = '-infinity' WHERE due_at IS NOT NULL"
    )
    path.driver.start()
    deadline = asyncio.get_running_loop().time() + 45
    while {row[0] for row in await path.pool.fetch("SELECT stage FROM transfer")} != {"written"}:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    path.desk.work(report=False)
    assert len(path.desk.paid) == len(path.desk.orders) == 20
    path.desk.put("late.xml", path.desk.status(path.desk.orders, "x"))
    await path.reach(paid=20)


async def test_only_a_booked_entry_means_paid_where_the_target_says_so_and_money_back_is_for_a_person(
    database_url: str, tmp_path: Path
) -> None:
    async with BankPath(database_url, tmp_path, **PAIN, paid_statuses=[]) as path:
        await path.instruct(path.order([order(1), order(2)]))
        await path.written(1)
        path.desk.work()
        deadline = asyncio.get_running_loop().time() + 45
        while not (path.back / "done").exists():
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)
        await path.reach(sent=2)
        first, second = path.desk.orders
        path.desk.put("booked.xml", path.desk.booked([first]))
        await path.reach(sent=1, paid=1)
        path.desk.put("back.xml", path.desk.booked([first, second], back="AC04"))
        await path.reach(review=1, failed=1)
        assert (await path.one("P-1"))["reason"] == "money-returned"
        assert (await path.one("P-2"))["reason"] == "AC04"


async def test_a_wrong_amount_an_unknown_status_and_a_contradiction_go_to_review(path: BankPath) -> None:
    path.desk.short.add("1001")
    await path.instruct(path.order([order(n) for n in (1, 2, 3, 4)]))
    await path.written(1)
    path.desk.work(report=False)
    one, two, three, four = path.desk.orders
    path.desk.put("a.xml", path.desk.status([one], "x"))
    path.desk.put("b.xml", path.desk.status([two], "x", paid="XXXX"))
    both = path.desk.status([three], "x").replace("</OrgnlPmtInfAndSts>", "").split("<TxInfAndSts>")
    again = both[1].replace("ACSC", "RJCT")
    path.desk.put(
        "c.xml",
        "<TxInfAndSts>".join(both).replace(
            "</CstmrPmtStsRpt>",
            f"<TxInfAndSts>{again.split('</TxInfAndSts>')[0]}</TxInfAndSts></OrgnlPmtInfAndSts></CstmrPmtStsRpt>",
        ),
    )
    path.desk.put("d.xml", path.desk.status([four], "x"))
    await path.reach(review=3, paid=1)
    codes = {row[0]: row[1] for row in await path.pool.fetch("SELECT payment_id, reason FROM transfer")}
    assert codes == {"P-1": "amount-differs", "P-2": "status-XXXX", "P-3": "contradicts", "P-4": None}
    path.desk.rejects["1004"] = "AC04"
    path.desk.put("e.xml", path.desk.status([four], "x"))
    await path.reach(review=4)


async def test_a_file_refused_as_a_whole_fails_each_of_its_payments(path: BankPath) -> None:
    await path.instruct(path.order([order(1), order(2)]))
    (file,) = await path.written(1)
    path.desk.put(
        "refused.xml",
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt><GrpHdr><MsgId>1</MsgId></GrpHdr>'
        f"<OrgnlGrpInfAndSts><OrgnlMsgId>{file.stem}</OrgnlMsgId><GrpSts>RJCT</GrpSts><StsRsnInf><Rsn><Cd>DUPL</Cd></Rsn>"
        "</StsRsnInf></OrgnlGrpInfAndSts></CstmrPmtStsRpt></Document>",
    )
    await path.reach(failed=2)
    assert (await path.one())["reason"] == "DUPL"


async def test_a_cash_out_list_names_the_payee_and_comes_back_as_csv(
    database_url: str, tmp_path: Path
) -> None:
    async with BankPath(database_url, tmp_path) as path:
        evil = order(2, payee_name={"full_name": "=cmd|' /C calc'!A0"}, payee_account=None)
        await path.instruct(path.order([order(1), evil]))
        (file,) = await path.written(1)
        rows = list(csv.DictReader(io.StringIO(file.read_text())))
        assert [row["payee_name"] for row in rows] == ["Amina <1> & Sons", "'=cmd|' /C calc'!A0"]
        assert [row["amount"] for row in rows] == ["1.01", "1.02"]
        path.desk.rejects[""] = "not-collected"
        path.desk.work()
        await path.reach(paid=1, failed=1)
        assert (await path.one("P-2"))["reason"] == "not-collected"


async def test_a_dry_run_says_what_would_be_and_moves_nothing(path: BankPath) -> None:
    path.desk.rejects["1002"] = "AC04"
    await path.instruct(path.order([order(1), order(2)]))
    await path.written(1)
    path.desk.work(report=False)
    text = path.desk.status([*path.desk.orders, {**path.desk.orders[0], "reference": "nobody"}], "x")
    ledger = path.books.transfers("bank-file")
    done = (await read_back(ledger, text.encode(), path.read_settings, dry_run=True)).as_dict()
    assert (done["paid"], done["failed"], done["unmatched"]) == (1, 1, 1)
    assert await path.states() == {"sent": 2}
    await read_back(ledger, text.encode(), path.read_settings, dry_run=False)
    again = (await read_back(ledger, text.encode(), path.read_settings, dry_run=False)).as_dict()
    assert (again["paid"], again["unchanged"]) == (0, 2)


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE d [<!ENTITY x "y">]><Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10">&x;</Document>',
        b"<Document><CstmrPmtStsRpt/></Document>",
        b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt>',
        b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10">' + b"<a>" * 100,
        b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><a>'
        + b"x" * 5000
        + b"</a></Document>",
        b"name,amount\nx,1\n",
        b"reference,status\n,paid\n",
        b"reference,status,amount,currency\nr,paid,1.5,JPY\n",
        b"\xff\xfe\x00",
    ],
    ids=["entity", "no-namespace", "cut-off", "deep", "long", "header", "no-reference", "yen", "bytes"],
)
def test_a_file_that_cannot_be_read_whole_counts_for_nothing(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read(data, BankFileSettings(folder=Path("/tmp")))
    assert refused.value.code == "bank-file-invalid"


async def test_a_broken_file_is_put_aside_and_the_next_is_read(path: BankPath) -> None:
    await path.instruct(path.order([order(1)]))
    await path.written(1)
    path.desk.work(report=False)
    path.desk.put("a.xml", "<broken")
    path.desk.put("b.xml", path.desk.status(path.desk.orders, "x"))
    await path.reach(paid=1)
    assert [one.name for one in (path.back / "refused").iterdir()] == ["a.xml"]


async def test_a_bank_that_says_nothing_leaves_the_payment_unknown_until_it_does(
    database_url: str, tmp_path: Path
) -> None:
    async with BankPath(database_url, tmp_path, **PAIN, answer_days=0.0001) as path:
        await path.instruct(path.order([order(1)]))
        await path.written(1)
        path.desk.work(report=False)
        await path.reach(unknown=1, seconds=30)
        path.desk.put("late.xml", path.desk.status(path.desk.orders, "x"))
        await path.reach(paid=1)


async def test_a_folder_that_others_may_read_stops_the_start(database_url: str, tmp_path: Path) -> None:
    path = BankPath(database_url, tmp_path)
    path.out.chmod(0o755)
    with pytest.raises(ConfigError) as refused:
        async with path:
            pass
    assert refused.value.code == "folder-open"
    await path.__aexit__()


async def test_the_desk_shows_payments_of_files_like_any_others(path: BankPath) -> None:
    await path.instruct(path.order([order(1)]))
    await path.written(1)
    (shown,) = await Desk(path.pool, path.books).show("P-1")
    assert shown["state"] == "sent"
