"""Programs: who is in, what each gets in a cycle, who agrees, what is paid and what became of it."""

from registry.programs.approvals import Approved
from registry.programs.cycles import Cycle
from registry.programs.definition import Program
from registry.programs.enrolling import EXIT, PAUSE, RESUME, Move
from registry.programs.funds import Fund
from registry.programs.results import Done, Said
from registry.programs.rows import BatchRows
from registry.programs.rules import Literals, Rule, RuleSource
from registry.programs.service import Programs
from registry.programs.terms import ProgramTerms
from registry.programs.vouchers import Voucher, VoucherKey
from registry.programs.work import Operation, Worked

__all__ = [
    "EXIT",
    "PAUSE",
    "RESUME",
    "Approved",
    "BatchRows",
    "Cycle",
    "Done",
    "Fund",
    "Literals",
    "Move",
    "Operation",
    "Program",
    "ProgramTerms",
    "Programs",
    "Rule",
    "RuleSource",
    "Said",
    "Voucher",
    "VoucherKey",
    "Worked",
]
