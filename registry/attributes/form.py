"""The questions of a form that follow from the attributes, as rows of an XLSForm (xlsform.org), which ODK and Kobo read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.attributes.attribute import Attribute, ValueType, Vocabulary
from registry.attributes.builtin import BUILT_IN, COLLECTION_DATE, ROLES
from registry.attributes.catalog import Catalog, Kind
from registry.attributes.schema import LARGEST, LONGEST, Subject
from registry.attributes.template import template

LANGUAGES: Final[Mapping[str, str]] = {
    "en": "English (en)",
    "fr": "Français (fr)",
    "es": "Español (es)",
    "ar": "العربية (ar)",
}
"""The languages of a form as XLSForm writes them behind `label::`."""

_TYPES: Final[Mapping[ValueType, str]] = {
    ValueType.INTEGER: "integer",
    ValueType.NUMBER: "decimal",
    ValueType.TEXT: "text",
    ValueType.DATE: "date",
}
_YES_NO: Final = {
    "yes": {"en": "yes", "fr": "oui", "es": "sí", "ar": "نعم"},
    "no": {"en": "no", "fr": "non", "es": "no", "ar": "لا"},
}


def _text(name: str, en: str, fr: str, es: str, ar: str, *, required: bool = False) -> Attribute:
    titles = {"en": en, "fr": fr, "es": es, "ar": ar}
    return Attribute(name, ValueType.TEXT, titles=titles, required=required)


_PLAIN: Final[Mapping[str, Attribute]] = {
    one.name: one
    for one in (
        _text("identifier", "identity number", "numéro d'identité", "número de identidad", "رقم الهوية", required=True),
        _text("family_name", "family name", "nom de famille", "apellidos", "اسم العائلة"),
        _text("given_name", "given name", "prénom", "nombres", "الاسم الأول"),
        _text("addl_name", "other names", "autres noms", "otros nombres", "أسماء أخرى"),
        _text("full_name", "name of the group", "nom du groupe", "nombre del grupo", "اسم المجموعة"),
        _text("phone", "phone number", "numéro de téléphone", "número de teléfono", "رقم الهاتف"),
        _text("area", "area code", "code de la zone", "código de la zona", "رمز المنطقة"),
        _text("household", "household number", "numéro du ménage", "número del hogar", "رقم الأسرة"),
    )
}  # fmt: skip
"""The fields of a template that lie in the vault or in other tables, and so are no attributes."""

_FIELDS: Final[Mapping[str, Attribute]] = {
    **_PLAIN,
    "role": Attribute(
        "role",
        ValueType.TEXT,
        titles={
            "en": "role in the household",
            "fr": "rôle dans le ménage",
            "es": "papel en el hogar",
            "ar": "الدور في الأسرة",
        },
        codes=ROLES.codes,
    ),
    "group_kind": BUILT_IN["group"]["kind"],
}


@dataclass(frozen=True, slots=True)
class Form:
    """The three sheets of an XLSForm, each a list of rows by column."""

    survey: tuple[dict[str, str], ...]
    choices: tuple[dict[str, str], ...]
    settings: dict[str, str]


def form(catalog: Catalog, kind: Kind, program: str | None = None) -> Form:
    """Return the form for a kind of registrant: the columns of the import template, each as a question under its name.

    Raises `Refused` `attribute-subject-unknown` when the programme has declared nothing.
    """
    declared = catalog.declared(kind, program)
    asked = [
        (name, declared.get(name) or _FIELDS.get(name) or BUILT_IN[kind][name])
        for name in template(catalog, kind, program)
    ]
    subjects = [one for one in catalog.subjects.values() if one.name in {kind, f"program:{program}"}]
    return _form(kind if program is None else f"{kind}_{program}", asked, subjects)


def event_form(catalog: Catalog, event_type: str) -> Form:
    """Return the form of a declared event: whom it is about, when it was collected, then its attributes.

    Raises `Refused` `attribute-subject-unknown`.
    """
    subject = catalog.subject(f"event:{event_type}")
    asked = {"identifier": _PLAIN["identifier"], "collection_date": COLLECTION_DATE, **subject.attributes}
    return _form(event_type, asked.items(), [subject])


def _form(name: str, asked: Iterable[tuple[str, Attribute]], subjects: Iterable[Subject]) -> Form:
    rules: dict[str, Mapping[str, Any]] = {}
    lists_of_codes: dict[str, Vocabulary] = {}
    version = 0
    for subject in subjects:
        rules |= subject.document["properties"]
        lists_of_codes |= subject.vocabularies
        version = max(version, subject.version)
    survey: list[dict[str, str]] = []
    choices: list[dict[str, str]] = []
    lists: set[str] = set()
    for column, attribute in asked:
        options = _options(attribute, lists_of_codes)
        row = {"type": _TYPES.get(attribute.type, "text"), "name": column}
        if options:
            row["type"] = f"select_one {column}"
            if attribute.type is ValueType.BOOLEAN:
                row["type"] = "select_one yes_no"
        row |= {f"label::{LANGUAGES[tag]}": attribute.title([tag]) for tag in LANGUAGES}
        row["required"] = "yes" if attribute.required else ""
        row["constraint"] = "" if options else _constraint(attribute, rules.get(column, {}))
        row["appearance"] = "numbers" if column == "phone" else ""
        survey.append(row)
        listed = row["type"].removeprefix("select_one ")
        if options and listed not in lists:
            lists.add(listed)
            choices += [
                {"list_name": listed, "name": code}
                | {f"label::{LANGUAGES[tag]}": labels.get(tag) or labels.get("en") or code for tag in LANGUAGES}
                for code, labels in options.items()
            ]  # fmt: skip
    form_id = "".join(letter if letter.isalnum() else "_" for letter in name)
    settings = {
        "form_title": name.replace("_", " "),
        "form_id": form_id,
        "version": str(version),
        "default_language": LANGUAGES["en"],
    }
    return Form(tuple(survey), tuple(choices), settings)


def _options(attribute: Attribute, lists_of_codes: Mapping[str, Vocabulary]) -> dict[str, Mapping[str, str]]:
    if attribute.type is ValueType.BOOLEAN:
        return dict(_YES_NO)
    if attribute.codes is None and (found := lists_of_codes.get(attribute.vocabulary or "")) is not None:
        # A form asks for what may be answered now; retired codes stay in old records only.
        return {code: labels for code, labels in found.labels.items() if code in found.active}
    return {code: attribute.labels.get(code, {}) for code in attribute.codes or ()}


def _constraint(attribute: Attribute, rule: Mapping[str, Any]) -> str:
    """Return the bounds of a value as XPath, the language of an XLSForm's `constraint`."""
    if attribute.type in {ValueType.INTEGER, ValueType.NUMBER}:
        return f". >= {rule.get('minimum', -LARGEST)} and . <= {rule.get('maximum', LARGEST)}"
    if attribute.type is ValueType.TEXT:
        return f"string-length(.) <= {rule.get('maxLength', LONGEST)}"
    return ""
