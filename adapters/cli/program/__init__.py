"""`hub program`: a program from its definition to reconciled payments."""

from adapters.cli.program.commands import app

__all__ = ["app"]
