"""Attributes a country declares: their schemas, what follows from them for rules, imports and the API."""

from registry.attributes.attribute import Attribute, ValueType, Vocabulary
from registry.attributes.builtin import BUILT_IN, COLLECTION_DATE, ROLES
from registry.attributes.catalog import KINDS, Catalog, Kind, Problem, json_sql, sql_of
from registry.attributes.compatibility import Break
from registry.attributes.form import Form, event_form, form
from registry.attributes.promotion import Promotion, promote, wanted
from registry.attributes.schema import LARGEST, Document, Subject, load_file, parse
from registry.attributes.store import Applied, apply, load_catalog, load_version, versions
from registry.attributes.template import template
from registry.attributes.watch import CatalogWatch

__all__ = [
    "BUILT_IN",
    "COLLECTION_DATE",
    "KINDS",
    "LARGEST",
    "ROLES",
    "Applied",
    "Attribute",
    "Break",
    "Catalog",
    "CatalogWatch",
    "Document",
    "Form",
    "Kind",
    "Problem",
    "Promotion",
    "Subject",
    "ValueType",
    "Vocabulary",
    "apply",
    "event_form",
    "form",
    "json_sql",
    "load_catalog",
    "load_file",
    "load_version",
    "parse",
    "promote",
    "sql_of",
    "template",
    "versions",
    "wanted",
]
