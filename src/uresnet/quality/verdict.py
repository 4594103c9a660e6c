"""Whether a result can be trusted: good, look, or failed, and why, in words for the person who has to decide.

``PAIR_RULES``, ``IMAGE_RULES`` and ``OWN_BOUNDS`` are the one place where thresholds are kept. Each rule compares one
sign with what was measured on pairs whose truth is known and on deliberately broken ones; ``benchmarks/verdict.py``
makes that table again for any model. Bounds that depend on what a model segments, or on the model, are in
``OWN_BOUNDS``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from uresnet.quality.signs import ImageSigns, Signs


class Level(StrEnum):
    """Good: nothing speaks against it. Look: a person should look before using it. Failed: do not use it."""

    good = "good"
    look = "look"
    failed = "failed"


SEVERITY = {Level.good: 0, Level.look: 1, Level.failed: 2}

HEADLINES = {
    Level.good: "Nothing speaks against this result",
    Level.look: "Look at this result before you use it",
    Level.failed: "Do not use this result",
}


@dataclass(frozen=True)
class Bounds:
    """Below or above these values a sign calls for a look, or says that the registration failed; None: no bound."""

    look_below: float | None = None
    failed_below: float | None = None
    look_above: float | None = None
    failed_above: float | None = None

    def level(self, value: float) -> Level:
        """The verdict on one value."""
        if _beyond(value, self.failed_below, self.failed_above):
            return Level.failed
        return Level.look if _beyond(value, self.look_below, self.look_above) else Level.good

    def in_words(self) -> str:
        """What passes as good, e.g. "at least 0.9"."""
        parts = []
        if self.look_below is not None:
            parts.append(f"at least {self.look_below:g}")
        if self.look_above is not None:
            parts.append(f"at most {self.look_above:g}")
        return " and ".join(parts)


@dataclass(frozen=True)
class Rule:
    """One sign: what it is called, its bounds, and what it means when they are passed."""

    sign: str
    title: str
    bounds: Bounds
    meaning: str
    unit: str = ""


PAIR_RULES: tuple[Rule, ...] = (
    Rule(
        "mean_dice",
        "Structures agree (mean Dice)",
        Bounds(look_below=0.60, failed_below=0.40),
        "the structures of the warped image do not lie on those of the fixed image",
    ),
    Rule(
        "crossed",
        "Left lands on right (share)",
        Bounds(look_above=0.05, failed_above=0.25),
        "structures of one side land on the other side",
    ),
    Rule(
        "overlap",
        "Brains overlap (Dice)",
        Bounds(look_below=0.94, failed_below=0.80),
        "the two brain outlines do not match after the registration",
    ),
    Rule(
        "correlation",
        "Images look alike (correlation)",
        Bounds(look_below=0.60, failed_below=0.25),
        "the warped and the fixed image do not look alike; are both T1-weighted?",
    ),
    Rule(
        "folding_fraction",
        "Folded tissue (share of the brain)",
        Bounds(look_above=0.10, failed_above=0.25),
        "the deformation folds tissue over itself, which real anatomy cannot do",
    ),
    Rule(
        "inverse_mean_mm",
        "Way back misses by (mean)",
        Bounds(look_above=1.0, failed_above=5.0),
        "the inverse transform does not lead back to where it started",
        " mm",
    ),
)

IMAGE_RULES: tuple[Rule, ...] = (
    Rule(
        "brain_ml",
        "Brain volume",
        Bounds(look_below=850, failed_below=300, look_above=2000, failed_above=3500),
        "the volume found as brain is not that of an adult's whole brain: something is missing or too much",
        " ml",
    ),
    Rule(
        "width",
        "Brain width / length",
        Bounds(look_below=0.65, failed_below=0.35, look_above=0.95, failed_above=1.4),
        "the brain has an unusual shape: is half of it missing, or does the file's orientation lie?",
    ),
    Rule(
        "height",
        "Brain height / length",
        Bounds(look_below=0.62, failed_below=0.35, look_above=0.95, failed_above=1.4),
        "the brain has an unusual shape: is its top or bottom cut off, or does the file's orientation lie?",
    ),
    Rule(
        "distance",
        "Distance from training images",
        Bounds(look_above=5.0),
        "its shape and intensities are unlike those of the T1-weighted brains that the model learnt from",
        " times the usual",
    ),
    Rule(
        "deep_over_rim",
        "Deep brain brighter than rim",
        Bounds(look_below=0.05),
        "deep inside, where white matter is, the brain is not brighter than below its surface: this does not look like "
        "a T1-weighted brain",
    ),
    Rule(
        "handedness",
        "Usual left-right asymmetry",
        Bounds(look_below=-0.05),
        "left and right may be exchanged: the brain's sides differ the other way round than in most people, as they do "
        "in about one brain in ten; compare left and right with the scanner's own images",
    ),
    Rule(
        "white_over_grey",
        "White matter brighter than cortex",
        Bounds(look_below=0.40),
        "white matter is not brighter than cortex: this does not look like a T1-weighted image",
    ),
    Rule(
        "grey_over_csf",
        "Cortex brighter than ventricles",
        Bounds(look_below=0.40),
        "cortex is not brighter than the ventricles: this does not look like a T1-weighted image",
    ),
    Rule(
        "labelled",
        "Structures fill the brain (share)",
        Bounds(look_below=0.60, failed_below=0.30, look_above=1.10),
        "the structures that were found do not fill the brain",
    ),
    Rule(
        "missing",
        "Structures not found",
        Bounds(look_above=0),
        "structures that every brain has were not found",
    ),
    Rule(
        "lopsided",
        "Left and right differ in volume",
        Bounds(look_above=0.10, failed_above=0.60),
        "the structures of one side are much larger than those of the other: is a part of the brain missing?",
    ),
)

OWN_BOUNDS: Mapping[str, Mapping[str, Bounds]] = {
    "freesurfer28": {"labelled": Bounds(look_below=0.75, failed_below=0.40, look_above=1.10)},
    "freesurfer32": {"labelled": Bounds(look_below=0.75, failed_below=0.40, look_above=1.10)},
    # About half-way between what it does on good pairs and the general bounds: docs/report.md has what was measured.
    "default": {
        "mean_dice": Bounds(look_below=0.75, failed_below=0.50),
        "crossed": Bounds(look_above=0.02, failed_above=0.25),
        "overlap": Bounds(look_below=0.96, failed_below=0.80),
        "correlation": Bounds(look_below=0.70, failed_below=0.25),
        "folding_fraction": Bounds(look_above=0.001, failed_above=0.05),
        "inverse_mean_mm": Bounds(look_above=0.05, failed_above=1.0),
    },
}
"""Bounds by sign, in place of the rules' own, for the label scheme or the model of a name; the model's come first."""


@dataclass(frozen=True)
class Finding:
    """One sign of one subject ("pair", "moving" or "fixed") held against its bounds."""

    subject: str
    rule: Rule
    value: float | None
    level: Level

    @property
    def sentence(self) -> str:
        """Why it matters, for a person."""
        shown = "" if self.value is None else f" ({self.rule.title.lower()}: {self.shown}; good is {self.wanted})"
        whose = f"{self.subject.capitalize()} image: " if self.subject in ("moving", "fixed") else ""
        text = f"{whose}{self.rule.meaning}{shown}."
        return text[0].upper() + text[1:]

    @property
    def shown(self) -> str:
        """The value as text."""
        if self.value is None:
            return "not measured"
        return f"{self.value:.0f}{self.rule.unit}" if abs(self.value) >= 100 else f"{self.value:.3g}{self.rule.unit}"

    @property
    def wanted(self) -> str:
        """What passes as good."""
        return f"{self.rule.bounds.in_words()}{self.rule.unit}"


@dataclass(frozen=True)
class Verdict:
    """The worst of all findings, and all of them."""

    level: Level
    findings: tuple[Finding, ...]

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        return HEADLINES[self.level]

    @property
    def reasons(self) -> list[str]:
        """Why it is not good, the gravest first; empty when it is."""
        bad = [one for one in self.findings if one.level is not Level.good]
        return [one.sentence for one in sorted(bad, key=lambda one: -SEVERITY[one.level])]

    def to_dict(self, signs: Signs | ImageSigns) -> dict[str, Any]:
        """For ``run.json``."""
        return {"verdict": self.level.value, "reasons": self.reasons, "signs": signs.to_dict()}


def judge(signs: Signs) -> Verdict:
    """Hold every sign of a pair against its bounds. A sign that could not be measured calls for a look, except those of
    structures from a model that does not segment, those of sides from one that does not tell them, and the handedness
    of a symmetric brain."""
    names, segmented = (signs.model, signs.scheme), bool(signs.dice)
    findings = [_held(rule, "pair", signs, names, segmented) for rule in PAIR_RULES]
    for name, image in (("moving", signs.moving), ("fixed", signs.fixed)):
        findings += [_held(rule, name, image, names, segmented) for rule in IMAGE_RULES]
    return _verdict(findings)


def judge_image(signs: ImageSigns, scheme: str = "", model: str = "") -> Verdict:
    """The same for one segmented image; ``scheme`` and ``model`` are the names of what segmented it."""
    return _verdict([_held(rule, "image", signs, (model, scheme), True) for rule in IMAGE_RULES])


def judge_record(quality: dict[str, Any]) -> Verdict | None:
    """The verdict from what ``run.json`` keeps of the signs; None where it keeps none, or others."""
    said: Any = quality.get("signs")
    try:
        images = {name: ImageSigns(**said[name]) for name in ("moving", "fixed")}
        dice = {key: float("nan") if value is None else float(value) for key, value in said["dice"].items()}
        return judge(Signs(**{**said, **images, "dice": dice}))
    except (TypeError, KeyError, AttributeError, ValueError):
        return None


def judge_image_record(record: Mapping[str, Any]) -> Verdict | None:
    """The verdict on one segmented image from its whole record; None where that keeps no signs, or others."""
    try:
        model = record["model"]
        return judge_image(ImageSigns(**record["quality"]["signs"]), str(model["scheme"]), str(model["name"]))
    except (TypeError, KeyError, AttributeError, ValueError):
        return None


_NEED_STRUCTURES = {"mean_dice", "white_over_grey", "grey_over_csf", "labelled", "missing"}
_NOT_ALWAYS = {"handedness", "crossed", "lopsided"}


def _verdict(findings: Sequence[Finding]) -> Verdict:
    return Verdict(max((one.level for one in findings), key=SEVERITY.__getitem__), tuple(findings))


def _held(rule: Rule, subject: str, signs: Signs | ImageSigns, names: Sequence[str], segmented: bool) -> Finding:
    own = next((OWN_BOUNDS[name][rule.sign] for name in names if rule.sign in OWN_BOUNDS.get(name, {})), rule.bounds)
    rule, value = replace(rule, bounds=own), getattr(signs, rule.sign)
    if value is None:
        excused = rule.sign in _NOT_ALWAYS or (rule.sign in _NEED_STRUCTURES and not segmented)
        return Finding(subject, rule, None, Level.good if excused else Level.look)
    return Finding(subject, rule, float(value), rule.bounds.level(float(value)))


def _beyond(value: float, below: float | None, above: float | None) -> bool:
    if value != value:  # not a number: nothing good can be said
        return below is not None or above is not None
    return (below is not None and value < below) or (above is not None and value > above)
