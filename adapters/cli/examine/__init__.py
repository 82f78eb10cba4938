"""What `hub doctor` looks at: each part alone, so that one wrong part does not hide the others."""

from adapters.cli.examine.findings import Finding, State
from adapters.cli.examine.whole import examine

__all__ = ["Finding", "State", "examine"]
