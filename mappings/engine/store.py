"""Every mapping and code list there is, by name and version."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from canonical_model.errors import ConfigError
from mappings.engine.codes import CodeList, code_list
from mappings.engine.mapping import Mapping
from mappings.engine.parse import Header, MappingFile, build_mapping, parse_mapping
from mappings.engine.source import read_yaml

MAX_FILES = 5_000
MAX_DEPTH = 8


def version_key(version: str) -> tuple[int, ...]:
    """Return a semantic version as numbers that sort."""
    return tuple(int(part) for part in version.split("."))


class MappingStore:
    """The mappings of the package and of configured directories.

    A file below a directory called `codes` is a code list, any other `*.yaml` is a mapping. Mappings are compiled when
    they are first asked for and kept.
    """

    def __init__(self) -> None:
        self._files: dict[str, dict[str, MappingFile]] = {}
        self._lists: dict[str, CodeList] = {}
        self._places: dict[str, str] = {}
        self._compiled: dict[str, Mapping] = {}

    @classmethod
    def load(cls, *directories: Path | str, packaged: bool = True) -> MappingStore:
        """Read the packaged files and those of the directories.

        Raises ConfigError: `mapping-file-invalid`, `mapping-duplicate` (a name and version or a code list twice),
        `mapping-not-found` (a directory that is not there).
        """
        store = cls()
        if packaged:
            store._read_tree(files("mappings"), "mappings")
        for directory in directories:
            place = Path(directory)
            if not place.is_dir():
                raise ConfigError(
                    f"The mapping directory {place} is not there.",
                    code="mapping-not-found",
                    remedy="Create it or correct the list of mapping directories in the settings.",
                )
            store._read_tree(place, str(place))
        return store

    def get(self, reference: str) -> Mapping:
        """Return the mapping `name` (its highest version) or `name@version`; raises ConfigError `mapping-not-found`."""
        file = self.used(reference)
        if file is None:
            raise ConfigError(
                f"There is no mapping '{reference}'.",
                code="mapping-not-found",
                remedy="`hub mapping list` shows the names and versions there are.",
            )
        key = file.header.reference
        if key not in self._compiled:
            self._compiled[key] = Mapping(file, self)
        return self._compiled[key]

    def compile_all(self) -> list[Mapping]:
        """Compile every mapping, so that a wrong name is found at start and not at the first message."""
        return [self.get(header.reference) for header in self.headers()]

    def headers(self) -> list[Header]:
        """Return the header of every mapping, by name and version."""
        return [
            self._files[name][version].header
            for name in sorted(self._files)
            for version in sorted(self._files[name], key=version_key)
        ]

    def place(self, reference: str) -> str:
        """Return the file a mapping `name@version` or a code list was read from."""
        return self._places[reference]

    def code_lists(self) -> list[CodeList]:
        """Return every shared code list, by name."""
        return [self._lists[name] for name in sorted(self._lists)]

    def code_list(self, name: str) -> CodeList | None:
        """Return the shared code list of that name, or None."""
        return self._lists.get(name)

    def used(self, reference: str) -> MappingFile | None:
        """Return the file of a mapping `name` or `name@version`, or None."""
        name, _, version = reference.partition("@")
        versions = self._files.get(name)
        if not versions:
            return None
        return versions.get(version or max(versions, key=version_key))

    def add_file(self, place: Path) -> Mapping:
        """Read one mapping file that lies anywhere, with the code lists in `codes/` beside it, and compile it.

        A mapping of the same name and version that is here already is replaced, so that a file can be tried out.
        """
        codes = place.parent / "codes"
        if codes.is_dir():
            for file in sorted(codes.glob("*.yaml")):
                found = code_list(read_yaml(str(file), file.read_bytes()))
                self._lists.setdefault(found.name, found)
        parsed = build_mapping(read_yaml(str(place), place.read_bytes()))
        self._files.setdefault(parsed.header.name, {})[parsed.header.version] = parsed
        self._places[parsed.header.reference] = str(place)
        self._compiled.clear()
        return self.get(parsed.header.reference)

    def _read_tree(self, root: Traversable, shown: str) -> None:
        for count, (name, file, is_codes) in enumerate(_yaml_files(root, shown, False, 0)):
            if count >= MAX_FILES:
                raise ConfigError(
                    f"{shown} holds more than {MAX_FILES} mapping files.", code="mapping-file-invalid"
                )
            if is_codes:
                found = code_list(read_yaml(name, file.read_bytes()))
                self._claim(found.name, name, found.name in self._lists)
                self._lists[found.name] = found
            else:
                parsed = parse_mapping(name, file.read_bytes())
                versions = self._files.setdefault(parsed.header.name, {})
                self._claim(parsed.header.reference, name, parsed.header.version in versions)
                versions[parsed.header.version] = parsed

    def _claim(self, reference: str, name: str, taken: bool) -> None:
        if taken:
            raise ConfigError(
                f"'{reference}' is defined twice: in {self._places[reference]} and in {name}.",
                code="mapping-duplicate",
                remedy="Give the changed file a higher version, or remove one of the two.",
            )
        self._places[reference] = name


def _yaml_files(
    root: Traversable, shown: str, is_codes: bool, depth: int
) -> Iterator[tuple[str, Traversable, bool]]:
    for entry in sorted(root.iterdir(), key=lambda found: found.name):
        name = f"{shown}/{entry.name}"
        if entry.is_dir() and depth < MAX_DEPTH and not entry.name.startswith((".", "_")):
            yield from _yaml_files(entry, name, is_codes or entry.name == "codes", depth + 1)
        elif entry.is_file() and entry.name.endswith((".yaml", ".yml")):
            yield name, entry, is_codes
