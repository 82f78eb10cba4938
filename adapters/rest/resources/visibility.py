"""Which registrants a partner sees: its areas with all within them, its programs, and who gave it consent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.http.problems import RequestRefused
from adapters.rest.resources.declaration import Args, Viewer

_AREA: Final = (
    "r.area_id IN (SELECT x.id FROM area x JOIN area top ON x.path @> ARRAY[top.id] "
    "WHERE top.code = ANY ({codes}::text[]))"
)
# Whoever is a member of an enrolled group today belongs to the program as the group does.
_PROGRAM: Final = """EXISTS (SELECT FROM enrollment e JOIN program p ON p.id = e.program_id
    WHERE p.code = ANY ({codes}::text[]) AND e.state IN ('enrolled', 'paused') AND e.registrant_id IN (
        SELECT r.id UNION ALL SELECT m.group_id FROM membership m WHERE m.member_id = r.id
            AND m.start_date <= current_date AND (m.ended_date IS NULL OR m.ended_date > current_date)))"""
# The newest word of a person counts; being asked once more takes nothing back.
_CONSENT: Final = """EXISTS (SELECT FROM consent c WHERE c.id = (
    SELECT n.id FROM consent n WHERE n.registrant_id = r.id AND n.recipient = {recipient} AND n.purpose = {purpose}
        AND n.status <> 'requested' ORDER BY n.status_at DESC, n.id DESC LIMIT 1)
    AND c.status IN ('given', 'renewed') AND (c.valid_from IS NULL OR c.valid_from <= now())
    AND (c.valid_until IS NULL OR c.valid_until > now()))"""
CONSENT_STATUS: Final = "X-Consent-Status"


class Visibility:
    """Makes the row filter of a viewer."""

    def __call__(self, viewer: Viewer, args: Args) -> str | None:
        """Return the condition over `registrant r`; raises `RequestRefused` for a purpose the partner may not ask for."""
        parts = [self.places(viewer, args)]
        if viewer.partner.consent is not None:
            purpose = consent_purpose(viewer)
            parts.append(_CONSENT.format(recipient=args.add(viewer.name), purpose=args.add(purpose)))
        return " AND ".join(part for part in parts if part) or None

    def people(self, viewer: Viewer, args: Args) -> str | None:
        """Return the condition over `registrant r` without the viewer's programs, for entries that say their own program."""
        partner = viewer.partner
        parts = []
        if partner.areas is not None:
            parts.append(_AREA.format(codes=args.add(list(partner.areas))))
        if partner.consent is not None:
            purpose = consent_purpose(viewer)
            parts.append(_CONSENT.format(recipient=args.add(viewer.name), purpose=args.add(purpose)))
        return " AND ".join(parts) or None

    def programs(self, viewer: Viewer, args: Args) -> str | None:
        """Return the condition over `program p`: the viewer's programs."""
        if viewer.partner.programs is None:
            return None
        return f"p.code = ANY ({args.add(list(viewer.partner.programs))}::text[])"

    def people_of_programs(self, viewer: Viewer, args: Args) -> str | None:
        """Return the condition over `program p` and `registrant r` together."""
        parts = (self.programs(viewer, args), self.people(viewer, args))
        return " AND ".join(part for part in parts if part) or None

    def places(self, viewer: Viewer, args: Args) -> str | None:
        """Return the condition of areas and programs alone, for what is not the registrant's data."""
        partner = viewer.partner
        parts = []
        if partner.areas is not None:
            parts.append(_AREA.format(codes=args.add(list(partner.areas))))
        if partner.programs is not None:
            parts.append(_PROGRAM.format(codes=args.add(list(partner.programs))))
        return " AND ".join(parts) or None


def consent_purpose(viewer: Viewer) -> str:
    """Return the purpose whose consent counts: the one asked for, or a partner's only one.

    Raises `RequestRefused` (`consent-purpose-invalid`) for none or another; what it says depends on no person.
    """
    policy = viewer.partner.consent
    purposes = policy.purposes if policy is not None else ()
    if viewer.purpose in purposes:
        return str(viewer.purpose)
    if viewer.purpose is None and len(purposes) == 1:
        return purposes[0]
    raise RequestRefused(
        "The partner sees people by consent only, and the purpose is none it may ask for. Nothing was shown.",
        code="consent-purpose-invalid",
        remedy=f"Name one of its purposes: {', '.join(purposes)}.",
    )


def consent_headers(viewer: Viewer) -> Mapping[str, str]:
    """Return X-Consent-Status of an answer that shows somebody; an answer about nobody tells nothing."""
    return {CONSENT_STATUS: "not-required" if viewer.partner.consent is None else "given"}
