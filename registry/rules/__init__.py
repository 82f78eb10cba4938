"""Rules in CEL: who is in and how much they get, for a million registrants in one statement and for one with reasons."""

from registry.rules.explanation import Explanation, Part
from registry.rules.facts import Event, Facts, Somebody, load_facts, record_look
from registry.rules.preview import Preview, check_areas, preview
from registry.rules.rule import Joined, Outcome, Result, Rule, compile_rule
from registry.rules.source import RuleRefused

__all__ = [
    "Event",
    "Explanation",
    "Facts",
    "Joined",
    "Outcome",
    "Part",
    "Preview",
    "Result",
    "Rule",
    "RuleRefused",
    "Somebody",
    "check_areas",
    "compile_rule",
    "load_facts",
    "preview",
    "record_look",
]
