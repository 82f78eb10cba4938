"""Programs: who is in, what each gets in a cycle, who agrees, what is paid and what became of it."""

from registry.programs.approvals import Approved
from registry.programs.cycles import Cycle
from registry.programs.definition import Program
from registry.programs.enrolling import EXIT, PAUSE, RESUME, Move
from registry.programs.funds import Fund
from registry.programs.kinds import program_kinds
from registry.programs.results import Done, Said
from registry.programs.rows import BatchRows
from registry.programs.rules import Rule, Rules, RuleSource, declared
from registry.programs.service import Programs
from registry.programs.terms import ProgramTerms
from registry.programs.upkeep import submit_due
from registry.programs.vouchers import Voucher, VoucherChecker, VoucherKey
from registry.programs.work import Operation

__all__ = [
    "EXIT",
    "PAUSE",
    "RESUME",
    "Approved",
    "BatchRows",
    "Cycle",
    "Done",
    "Fund",
    "Move",
    "Operation",
    "Program",
    "ProgramTerms",
    "Programs",
    "Rule",
    "RuleSource",
    "Rules",
    "Said",
    "Voucher",
    "VoucherChecker",
    "VoucherKey",
    "declared",
    "program_kinds",
    "submit_due",
]
