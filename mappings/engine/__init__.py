"""The mapping engine: declarative files compiled once to closures that run both ways."""

from mappings.engine.codes import Code, CodeList
from mappings.engine.functions import FUNCTIONS, FunctionKind, FunctionPair, register_function
from mappings.engine.loss import Loss, LossReport, loss_report
from mappings.engine.mapping import Mapping
from mappings.engine.parse import Direction, Header, MappingFile, parse_mapping
from mappings.engine.store import MappingStore
from mappings.engine.trace import Origin, Trace

__all__ = [
    "FUNCTIONS",
    "Code",
    "CodeList",
    "Direction",
    "FunctionKind",
    "FunctionPair",
    "Header",
    "Loss",
    "LossReport",
    "Mapping",
    "MappingFile",
    "MappingStore",
    "Origin",
    "Trace",
    "loss_report",
    "parse_mapping",
    "register_function",
]
