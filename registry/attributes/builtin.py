"""What every registrant has without being declared: columns of `registrant`, by the names OpenSPP gives them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from canonical_model.base import Privacy
from canonical_model.household import GroupKind, MembershipRole
from canonical_model.person import MaritalStatus, Sex
from registry.attributes.attribute import Attribute, ValueType

_STATUS: Final = ("active", "deceased", "inactive", "merged")
_SEX: Final = tuple(Sex)
_LABELS: Final = {
    "male": {"en": "male", "fr": "masculin", "es": "masculino", "ar": "ذكر"},
    "female": {"en": "female", "fr": "féminin", "es": "femenino", "ar": "أنثى"},
    "other": {"en": "other", "fr": "autre", "es": "otro", "ar": "آخر"},
    "unknown": {"en": "unknown", "fr": "inconnu", "es": "desconocido", "ar": "غير معروف"},
}


def _one(
    name: str,
    kind: ValueType,
    column: str,
    titles: Mapping[str, str],
    codes: tuple[str, ...] | None = None,
    privacy: Privacy = Privacy.PERSONAL,
) -> Attribute:
    labels = _LABELS if codes is _SEX else {}
    return Attribute(name, kind, privacy, titles, codes, labels, column=column)


_MARITAL: Final = tuple(MaritalStatus)
_SEX_TITLE: Final = {"en": "sex", "fr": "sexe", "es": "sexo", "ar": "الجنس"}
_MARITAL_TITLE: Final = {
    "en": "marital status",
    "fr": "état matrimonial",
    "es": "estado civil",
    "ar": "الحالة الاجتماعية",
}

_SHARED: Final = (
    _one(
        "status",
        ValueType.TEXT,
        "status",
        {"en": "status", "fr": "statut", "es": "estado", "ar": "الحالة"},
        _STATUS,
        Privacy.PUBLIC,
    ),
    _one(
        "registration_date",
        ValueType.DATE,
        "registration_date",
        {
            "en": "registration date",
            "fr": "date d'enregistrement",
            "es": "fecha de registro",
            "ar": "تاريخ التسجيل",
        },
    ),
    _one(
        "language",
        ValueType.TEXT,
        "language",
        {"en": "language", "fr": "langue", "es": "idioma", "ar": "اللغة"},
    ),
)
_INDIVIDUAL: Final = (
    *_SHARED,
    _one("sex", ValueType.TEXT, "sex", _SEX_TITLE, _SEX),
    _one("gender", ValueType.TEXT, "sex", _SEX_TITLE, _SEX),
    _one(
        "birthdate",
        ValueType.DATE,
        "birthdate",
        {"en": "birth date", "fr": "date de naissance", "es": "fecha de nacimiento", "ar": "تاريخ الميلاد"},
    ),
    _one(
        "birthdate_not_exact",
        ValueType.BOOLEAN,
        "birthdate_not_exact",
        {
            "en": "birth date estimated",
            "fr": "date de naissance estimée",
            "es": "fecha de nacimiento estimada",
            "ar": "تاريخ ميلاد تقديري",
        },
    ),
    _one(
        "deathdate",
        ValueType.DATE,
        "deathdate",
        {"en": "death date", "fr": "date de décès", "es": "fecha de defunción", "ar": "تاريخ الوفاة"},
    ),
    _one("marital_status", ValueType.TEXT, "marital_status", _MARITAL_TITLE, _MARITAL),
    _one("civil_status", ValueType.TEXT, "marital_status", _MARITAL_TITLE, _MARITAL),
)
_GROUP: Final = (
    *_SHARED,
    _one(
        "kind",
        ValueType.TEXT,
        "group_kind",
        {"en": "kind of group", "fr": "type de groupe", "es": "tipo de grupo", "ar": "نوع المجموعة"},
        tuple(GroupKind),
        Privacy.PUBLIC,
    ),
    _one(
        "is_partial_group",
        ValueType.BOOLEAN,
        "is_partial_group",
        {"en": "partial group", "fr": "groupe partiel", "es": "grupo parcial", "ar": "مجموعة جزئية"},
        privacy=Privacy.PUBLIC,
    ),
    _one(
        "group_size",
        ValueType.INTEGER,
        "group_size",
        {"en": "declared size", "fr": "taille déclarée", "es": "tamaño declarado", "ar": "الحجم المصرح به"},
    ),
)

BUILT_IN: Final[Mapping[str, Mapping[str, Attribute]]] = MappingProxyType(
    {
        "individual": MappingProxyType({one.name: one for one in _INDIVIDUAL}),
        "group": MappingProxyType({one.name: one for one in _GROUP}),
    }
)
"""The built-in attributes of both kinds; `gender` and `civil_status` are OpenSPP's names of `sex` and `marital_status`."""

ROLES: Final = Attribute(
    "roles",
    ValueType.TEXTS,
    titles={"en": "roles", "fr": "rôles", "es": "roles", "ar": "الأدوار"},
    codes=tuple(MembershipRole),
)
"""What part a member has in the group; only members have it."""

COLLECTION_DATE: Final = Attribute(
    "collection_date",
    ValueType.DATE,
    titles={
        "en": "collection date",
        "fr": "date de collecte",
        "es": "fecha de recolección",
        "ar": "تاريخ الجمع",
    },
    column="collected_on",
)
"""The day of an event; every event has it."""
