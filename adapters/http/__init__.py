"""The HTTP server: one pipeline for every adapter, its security, problems and description."""

from adapters.http.app import SERVICES, add_operations, build_app
from adapters.http.catalog import declare
from adapters.http.operations import OPERATIONS, Answer, Body, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.http.services import Check, MessageIntake, Services

__all__ = [
    "OPERATIONS",
    "SERVICES",
    "Answer",
    "Body",
    "Call",
    "Check",
    "MessageIntake",
    "Operation",
    "RequestRefused",
    "Services",
    "add_operations",
    "build_app",
    "declare",
]
