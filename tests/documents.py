"""What the tests of the documents share: where the tree is, what is in the pages, which error codes the code names."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import typer

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FLOORS = ("adapters", "connectors", "routing", "registry", "mappings", "canonical_model")
CODE = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: its language, the words after it, its text and where it stands."""

    language: str
    words: frozenset[str]
    text: str
    place: str


@cache
def pages() -> dict[str, str]:
    """Return every Markdown page of the project by its path from the root."""
    found = [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
        *(ROOT / "connectors").rglob("*.md"),
    ]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(found)}


def page(name: str) -> str:
    """Return one page of docs/; a page that is not there is empty, so that tests say what is missing in it."""
    return pages().get(f"docs/{name}", "")


def whole() -> str:
    """Return the text of all pages but those of single error codes."""
    return "\n".join(text for name, text in pages().items() if not name.startswith("docs/errors/"))


@cache
def blocks() -> list[Block]:
    """Return every fenced block of every page."""
    found = []
    for name, text in pages().items():
        for match in BLOCK.finditer(text):
            words = match[1].split()
            line = text[: match.start()].count("\n") + 1
            found.append(Block(words[0] if words else "", frozenset(words[1:]), match[2], f"{name}:{line}"))
    return found


def marked(language: str, word: str) -> list[Block]:
    """Return the blocks of a language that carry a mark, as in ```yaml route."""
    return [block for block in blocks() if block.language == language and word in block.words]


def tracked() -> list[Path]:
    """Return every file git knows, and none when this is no checkout."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=False)
    return [ROOT / name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@cache
def sources() -> dict[str, ast.Module]:
    """Return the syntax tree of every module of the six floors by its path from the root."""
    found = {}
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            # The skeleton of a new connector has gaps where names go, so some of its files are no Python yet.
            with contextlib.suppress(SyntaxError):
                found[str(path.relative_to(ROOT))] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def codes_in_source() -> dict[str, set[str]]:
    """Return each error code the source names and where: `code=`, `default_code`, catalogs, and helpers with a `code`."""
    found: dict[str, set[str]] = defaultdict(set)
    shared = {name: place for tree in sources().values() for name, place in _takers(tree).items()}
    for file, tree in sources().items():
        imported = {
            alias.asname or alias.name: shared[alias.name]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.name in shared
        }
        takers = {**imported, **_takers(tree)}
        for node in ast.walk(tree):
            for code in _named(node, takers):
                found[code].add(f"{file}:{getattr(node, 'lineno', 0)}")
    return dict(found)


def _takers(tree: ast.Module) -> dict[str, int]:
    """Return the functions and classes of a module that take `code` by position, and that position."""
    takers: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [argument.arg for argument in node.args.args]
            names = names[1:] if names[:1] in (["self"], ["cls"]) else names
            if "code" in names:
                takers[node.name] = names.index("code")
        elif isinstance(node, ast.ClassDef):
            fields = [
                part.target.id
                for part in node.body
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
            ]
            if "code" in fields:
                takers[node.name] = fields.index("code")
    return takers


def _named(node: ast.AST, takers: dict[str, int]) -> set[str]:
    values: list[ast.expr | None] = []
    if isinstance(node, ast.Call):
        values += [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in takers and len(node.args) > takers[name]:
            values.append(node.args[takers[name]])
        if name == "declare" and node.args:
            values.append(node.args[0])
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and (target.id == "default_code" or target.id.endswith("_CODE")):
            values.append(node.value)
        if isinstance(target, ast.Name) and target.id == "CATALOG" and isinstance(node.value, ast.Dict):
            values += node.value.keys
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        positional = node.args.args[len(node.args.args) - len(node.args.defaults) :]
        pairs = [
            *zip(positional, node.args.defaults, strict=True),
            *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
        ]
        values += [value for argument, value in pairs if argument.arg == "code"]
    elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple) and "declare(" in ast.unparse(node):
        values += [row.elts[0] for row in node.iter.elts if isinstance(row, ast.Tuple)]
    return {text for value in values for text in _texts(value) if CODE.fullmatch(text)}


def _texts(value: ast.expr | None) -> set[str]:
    if isinstance(value, ast.IfExp):
        return _texts(value.body) | _texts(value.orelse)
    if isinstance(value, ast.BoolOp):
        return {text for part in value.values for text in _texts(part)}
    return {value.value} if isinstance(value, ast.Constant) and isinstance(value.value, str) else set()


def generated() -> dict[str, dict[str, str]]:
    """Return, by page, the parts that are written from the code: mark and text."""
    return {
        "settings.md": {"settings": settings_table()},
        "metrics.md": {"metrics": metrics_table()},
        "cli.md": {"commands": command_pages()},
    }


def between(text: str, mark: str) -> str:
    """Return what stands between the marks of a generated part."""
    _, _, rest = text.partition(f"<!-- begin {mark} -->\n")
    return rest.partition(f"<!-- end {mark} -->")[0].strip()


def settings_table() -> str:
    """Return one row per setting: variable, key, kind, default and meaning."""
    from registry.settings import HubSettings

    rows = ["| variable | key in `hub.toml` | value | if left out | meaning |", "|---|---|---|---|---|"]
    for name, field in HubSettings.model_fields.items():
        default = (
            "unset"
            if field.default is None
            else f"`{str(field.default).lower() if field.default in {True, False} else field.default}`"
        )
        rows.append(f"| `HUB_{name.upper()}` | `{name}` | {_kind(name)} | {default} | {field.description} |")
    return "\n".join(rows)


def _kind(name: str) -> str:
    from registry.settings import HubSettings

    schema = HubSettings.model_json_schema()["properties"][name]
    schema = next((one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"), schema)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "string": "text"}
    kind = {"path": "path", "password": "secret"}.get(schema.get("format", ""), words[schema["type"]])
    low = next((f"from {schema[key]}" for key in ("minimum",) if key in schema), None)
    low = low or (f"above {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else None)
    high = f"to {schema['maximum']}" if "maximum" in schema else None
    return " ".join(part for part in (kind, low, high) if part)


def metrics_table() -> str:
    """Return one row per metric: name, kind, labels and meaning."""
    from routing import metrics

    labels = {}
    for value in vars(metrics).values():
        metric = getattr(value, "metric", value)
        if hasattr(metric, "_labelnames"):
            labels[metric._name] = metric._labelnames
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in sorted(metrics.REGISTRY.collect(), key=lambda one: one.name):
        name = family.name + ("_total" if family.type == "counter" else "")
        marks = ", ".join(f"`{label}`" for label in labels.get(family.name, ())) or "none"
        rows.append(f"| `{name}` | {family.type} | {marks} | {family.documentation} |")
    return "\n".join(rows)


def commands() -> dict[str, click.Command]:
    """Return every command that does something, by its words after `hub`."""
    from adapters.cli import COMMANDS, GROUPS, build

    found: dict[str, click.Command] = {}
    for name, (module, _) in {**GROUPS, **COMMANDS}.items():
        if importlib.util.find_spec(module) is not None:
            _walk(typer.main.get_command(build(name)), "", found)
    return dict(sorted(found.items()))


def _walk(command: click.Command, words: str, found: dict[str, click.Command]) -> None:
    # typer carries its own click, so the kind is told by what it has
    inner = getattr(command, "commands", None)
    if inner is None:
        found[words] = command
        return
    for name, below in inner.items():
        _walk(below, f"{words} {name}".strip(), found)


def command_pages() -> str:
    """Return a section per command: what it does, an example, arguments and options."""
    parts = []
    for words, command in commands().items():
        text = inspect.cleandoc(command.help or "")
        lead, _, example = text.partition("Example:")
        lines = [f"### hub {words}", "", " ".join(lead.split())]
        if example.strip():
            lines += ["", "```sh", " ".join(example.split()), "```"]
        rows = [
            _parameter(one) for one in command.params if getattr(one, "help", None) and one.name != "help"
        ]
        if rows:
            lines += ["", "| | |", "|---|---|", *rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _parameter(parameter: click.Parameter) -> str:
    own = [getattr(parameter, "metavar", None) or str(parameter.name).upper()]
    names = parameter.opts if parameter.param_type_name == "option" else own
    shown = ", ".join(f"`{name}`" for name in names)
    return f"| {shown} | {' '.join(str(parameter.help).split())} |".replace("`[DIR]`", "`DIR`")


def write() -> None:
    """Write the generated parts anew."""
    for name, parts in generated().items():
        path = DOCS / name
        text = path.read_text(encoding="utf-8")
        for mark, body in parts.items():
            head, _, rest = text.partition(f"<!-- begin {mark} -->\n")
            text = f"{head}<!-- begin {mark} -->\n{body}\n<!-- end {mark} -->{rest.partition(f'<!-- end {mark} -->')[2]}"
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
