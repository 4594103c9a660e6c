"""Whether a result can be trusted: good, look, or failed, and why, in words for the person who has to decide.

Thresholds are kept here alone: in ``PAIR_RULES`` and ``IMAGE_RULES``; in ``SCHEME_BOUNDS`` those that depend on what a
model segments; in ``MODEL_BOUNDS`` those of one model. They come from pairs whose truth is known and from deliberately
broken ones; ``benchmarks/verdict.py`` makes that table again for any model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from uresnet.results.record import Level, ModelRecord, Quality, RunRecord
from uresnet.results.signs import ImageSigns, PairSigns, rounded

_NONE = "none"

SEVERITY = {Level.good: 0, Level.look: 1, Level.failed: 2}

HEADLINES = {
    Level.good: "Automatic checks passed",
    Level.look: "Look at this result before you use it",
    Level.failed: "Do not use this result",
}


@dataclass(frozen=True)
class Bounds:
    """Below or above these values a sign asks for a look, or says that the result failed; None: no bound."""

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
        if self.look_above == 0 and self.look_below is None:
            return _NONE
        parts = []
        if self.look_below is not None:
            parts.append(f"at least {self.look_below:g}")
        if self.look_above is not None:
            parts.append(f"at most {self.look_above:g}")
        return " and ".join(parts)


@dataclass(frozen=True)
class Rule:
    """One sign: its title, its bounds, and what it means when its value lies outside them; ``alone`` is what it means
    of an image that was segmented alone, where that is something else."""

    sign: str
    title: str
    bounds: Bounds
    meaning: str
    unit: str = ""
    alone: str = ""


_LOPSIDED_BY_MASS = (
    "the structures of one side are much larger than those of the other, as they may be beside abnormal tissue, which "
    "takes the place of some"
)
_NOT_SIMILAR = "the warped and the fixed image are not similar"

PAIR_RULES: tuple[Rule, ...] = (
    Rule(
        "mean_dice",
        "Structures agree (mean Dice)",
        Bounds(look_below=0.60, failed_below=0.40),
        "the structures of the warped image do not match those of the fixed image",
    ),
    Rule(
        "crossed",
        "Left mapped to right (share)",
        Bounds(look_above=0.05, failed_above=0.25),
        "the registration maps structures of one side onto the other side",
    ),
    Rule(
        "overlap",
        "Brains overlap (Dice)",
        Bounds(look_below=0.94, failed_below=0.80),
        "the two brain masks do not match after the registration",
    ),
    Rule(
        "correlation",
        "Images are similar (correlation)",
        Bounds(look_below=0.60, failed_below=0.25),
        f"{_NOT_SIMILAR}; check that both are of the same contrast",
    ),
    Rule(
        "folding_fraction",
        "Folded tissue (share of the brain)",
        Bounds(look_above=0.10, failed_above=0.25),
        "the deformation folds tissue over itself, which is not possible in real anatomy",
    ),
    Rule(
        "inverse_mean_mm",
        "Inverse error (mean)",
        Bounds(look_above=1.0, failed_above=5.0),
        "the inverse transform does not undo the transform",
        " mm",
    ),
)

IMAGE_RULES: tuple[Rule, ...] = (
    Rule(
        "brain_ml",
        "Brain volume",
        Bounds(look_below=850, failed_below=300, look_above=2000, failed_above=3500),
        "the brain mask does not have the volume of a whole adult brain; check that no part is missing and that it "
        "holds no other tissue",
        " ml",
    ),
    Rule(
        "width",
        "Brain width / length",
        Bounds(look_below=0.65, failed_below=0.35, look_above=0.95, failed_above=1.2),
        "the brain has an unusual shape; check that no half is missing and that the file states the right orientation",
    ),
    Rule(
        "height",
        "Brain height / length",
        Bounds(look_below=0.62, failed_below=0.35, look_above=0.95, failed_above=1.2),
        "the brain has an unusual shape; check that its top and bottom are there and that the file states the right "
        "orientation",
    ),
    Rule(
        "distance",
        "Distance from training images",
        Bounds(look_above=5.0, failed_above=10.0),
        "its shape and intensities differ from those of T1-weighted images of healthy adults",
        " times the usual",
    ),
    Rule(
        "deep_over_rim",
        "Deep brain brighter than surface",
        Bounds(look_below=0.05, failed_below=-0.1),
        "the deep brain, which is mostly white matter, is not brighter than the cortex: this does not look like a "
        "T1-weighted image",
    ),
    Rule(
        "handedness",
        "Usual left-right asymmetry",
        Bounds(look_below=-0.05),
        "left and right may be exchanged: the asymmetry of this brain is the opposite of the usual one, as in about "
        "one brain in ten; compare left and right with the images on the scanner",
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
        "the volume of all structures does not fit the volume of the brain",
    ),
    Rule(
        "missing",
        "Structures not found",
        Bounds(look_above=0, failed_above=5),
        "the model did not find structures that every brain has; where many are missing, the brain does not lie as the "
        "file says, or this is none",
    ),
    Rule(
        "mass_ml",
        "Mass, cavity or stroke",
        Bounds(look_above=0.0, failed_above=500.0),
        "tissue looks abnormal (a mass, a cavity or a stroke): registration matches nothing to it, and volumes near it "
        "are uncertain",
        " ml",
        "tissue looks abnormal (a mass, a cavity or a stroke): volumes near it are uncertain",
    ),
    Rule(
        "lesion_ml",
        "Lesions of the white matter",
        Bounds(look_above=60.0),
        "so much of the white matter looks abnormal that it may be a tumour, the swelling round one, or a stroke; "
        "registration matches it as white matter",
        " ml",
        "so much of the white matter looks abnormal that it may be a tumour, the swelling round one, or a stroke",
    ),
    Rule(
        "lopsided",
        "Left and right differ in volume",
        Bounds(look_above=0.10, failed_above=0.60),
        "the structures of one side are much larger than those of the other; check that no part of the brain is "
        "missing",
    ),
)

DRAWN_RULE = Rule(
    "mass_ml",
    "Abnormal tissue, drawn or found",
    Bounds(look_above=0.0),
    "the tissue that you have drawn counts as abnormal, with what was found beside it: registration matches nothing to "
    "it, and volumes near it are uncertain",
    " ml",
    "the tissue that you have drawn counts as abnormal, with what was found beside it: volumes near it are uncertain",
)
"""In place of the rule of masses, for an image with a mask of abnormal tissue: what it is, only the user knows."""

DRAWN_ONLY_RULE = replace(
    DRAWN_RULE,
    title="Abnormal tissue, drawn",
    meaning=DRAWN_RULE.meaning.replace(", with what was found beside it", ""),
    alone=DRAWN_RULE.alone.replace(", with what was found beside it", ""),
)
"""The same where no other was found."""

_BESIDE = 1.1
"""Times the volume of what was drawn, from which on other tissue was found beside it: it is counted on other voxels."""

ALL_TISSUE = {"labelled": Bounds(look_below=0.75, failed_below=0.40, look_above=1.10)}
"""Of schemes whose structures fill the whole brain."""

SCHEME_BOUNDS: Mapping[str, Mapping[str, Bounds]] = dict.fromkeys(
    ("freesurfer28", "freesurfer32", "freesurfer34", "freesurfer35"), ALL_TISSUE
)
"""Bounds by sign, in place of the rules' own, for a label scheme."""

DEFAULT_MODEL = "60a9cb1ce641651f2f29c7b8b2112ccb57e724e8183d0a21e197138cc8ec2ab2"
"""SHA-256 of the file of the default model: a name says nothing of what a model does, because anybody may give it."""

OPEN_MODEL = "fd4365179ff545c65d318ee2c46e7710257b17f18f514d0f10ca19ad3608a9ad"
"""The same of the model open."""

MODEL_BOUNDS: Mapping[str, Mapping[str, Bounds]] = {
    # It makes small ventricles too large: they are as bright as cortex in good T1-weighted images (-0.6 at worst; -1.4
    # and below in T2-weighted ones, which the other signs tell too).
    OPEN_MODEL: {"grey_over_csf": Bounds(look_below=-1.0)},
    # About half-way between what it does on good pairs and the general bounds: docs/report.md has what was measured.
    DEFAULT_MODEL: {
        "mean_dice": Bounds(look_below=0.75, failed_below=0.50),
        "crossed": Bounds(look_above=0.02, failed_above=0.25),
        "overlap": Bounds(look_below=0.96, failed_below=0.80),
        "correlation": Bounds(look_below=0.70, failed_below=0.25),
        "folding_fraction": Bounds(look_above=0.001, failed_above=0.05),
        "inverse_mean_mm": Bounds(look_above=0.05, failed_above=1.0),
    },
}
"""Bounds by sign for the model whose file has this SHA-256; they come before those of its scheme."""


@dataclass(frozen=True)
class Finding:
    """One sign of one subject ("pair", "moving", "fixed" or "image") compared with its bounds."""

    subject: str
    rule: Rule
    value: float | None
    level: Level

    @property
    def sentence(self) -> str:
        """Why it matters, for a person."""
        title = self.rule.title[0].lower() + self.rule.title[1:]
        shown = "" if self.value is None else f" ({title}: {self.shown}; good is {self.wanted})"
        whose = f"{self.subject.capitalize()} image: " if self.subject in ("moving", "fixed") else ""
        meaning = self.rule.alone if self.subject == "image" and self.rule.alone else self.rule.meaning
        text = f"{whose}{meaning}{shown}."
        return text[0].upper() + text[1:]

    @property
    def shown(self) -> str:
        """The value as text."""
        if self.value is None:
            return "not measured"
        return f"{self.value:.0f}{self.rule.unit}" if abs(self.value) >= 100 else f"{self.value:.3g}{self.rule.unit}"

    @property
    def wanted(self) -> str:
        """Which values are good."""
        words = self.rule.bounds.in_words()
        return words if words == _NONE else f"{words}{self.rule.unit}"

    @property
    def judgement(self) -> str:
        """The verdict on the value; where there is none, and that is no doubt, no verdict either."""
        return "not judged" if self.value is None and self.level is Level.good else self.level.value


@dataclass(frozen=True)
class Verdict:
    """The worst of all findings, and all of them."""

    level: Level
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """What is worth knowing and makes no result worse, in sentences."""

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        return HEADLINES[self.level]

    @property
    def reasons(self) -> list[str]:
        """Why it is not good, the gravest first, and what is wrong with an image, which may explain the pair, before
        what is wrong with the pair; empty when it is good."""
        bad = [finding for finding in self.findings if finding.level is not Level.good]
        bad.sort(key=lambda finding: (-SEVERITY[finding.level], finding.subject == "pair"))
        return [finding.sentence for finding in bad]

    def quality(self, signs: PairSigns | ImageSigns) -> Quality:
        """For the record, with the ``signs`` that it was made from."""
        return Quality(verdict=self.level, reasons=tuple(self.reasons), signs=rounded(signs))


def judge(signs: PairSigns, model: ModelRecord, deforms: bool = True) -> Verdict:
    """Compare every sign of a pair with the bounds that hold for ``model``. They are those of a transform that
    ``deforms``; where it does not, the reasons say so. A sign that could not be measured asks for a look, except those
    of structures from a model that does not segment, those of sides from one that does not distinguish them, and the
    handedness of a symmetric brain."""
    segmented = bool(signs.dice)
    alike = signs.moving.contrast == signs.fixed.contrast
    rules = [rule for rule in PAIR_RULES if alike or rule.sign != "correlation"]
    if alike and signs.moving.contrast not in (None, "unknown"):
        rules = [replace(rule, meaning=_NOT_SIMILAR) if rule.sign == "correlation" else rule for rule in rules]
    findings = [_finding(rule, "pair", signs, model, segmented) for rule in rules]
    if not deforms:
        findings = [_explained_by_affine(finding) for finding in findings]
    for name, image in (("moving", signs.moving), ("fixed", signs.fixed)):
        findings += [_finding(rule, name, image, model, segmented) for rule in _image_rules(image)]
    notes = [*_notes(signs.moving, "Moving image: "), *_notes(signs.fixed, "Fixed image: ")]
    return _verdict(findings, notes)


def judge_image(signs: ImageSigns, model: ModelRecord) -> Verdict:
    """The same for one segmented image."""
    findings = [_finding(rule, "image", signs, model, segmented=True) for rule in _image_rules(signs)]
    return _verdict(findings, _notes(signs))


def judge_record(record: RunRecord) -> Verdict | None:
    """The verdict on the signs that a record keeps; None where it keeps none, or those of another version."""
    signs = record.quality.signs if record.quality is not None else None
    if signs is None:
        return None
    if isinstance(signs, PairSigns):
        return judge(signs, record.model, deforms(record))
    return judge_image(signs, record.model)


def deforms(record: RunRecord) -> bool:
    """Whether the transform of a registration may have a deformation."""
    return record.transform not in ("rigid", "affine")


def told_abnormal_ml(record: RunRecord) -> float:
    """How much abnormal tissue of a segmented image is worth a word: masses and what was drawn, and lesions of the
    white matter from 1 ml on."""
    signs = record.quality.signs if record.quality is not None else None
    if not isinstance(signs, ImageSigns):
        return 0.0
    return (signs.mass_ml or 0.0) + (_told_lesion_ml(signs) or 0.0)


_LEFT_BY_AFFINES = {"mean_dice", "overlap", "correlation"}
_WITHOUT_DEFORMATION = "; without a deformation, two people differ by more than what is called good here"
_NEED_STRUCTURES = {"mean_dice", "white_over_grey", "grey_over_csf", "labelled", "missing"}
_NOT_ALWAYS = {"handedness", "crossed", "lopsided", "mass_ml", "lesion_ml"}
_OF_T1 = {"distance", "deep_over_rim", "white_over_grey", "grey_over_csf", "handedness"}
"""Signs that compare an image with T1-weighted ones: they say nothing of an image recognised as of another contrast.
Where tissues were found in the order of brightness of T1-weighted images, the deep brain need not be asked."""


_LESION_RULE = next(rule for rule in IMAGE_RULES if rule.sign == "lesion_ml")
_TOLD_ML = 1.0
"""Of lesions of the white matter: less is found in healthy people."""


def _explained_by_affine(finding: Finding) -> Finding:
    """Says why a sign asks for a look where nothing deforms; it explains no failure."""
    if finding.level is not Level.look or finding.rule.sign not in _LEFT_BY_AFFINES:
        return finding
    return replace(finding, rule=replace(finding.rule, meaning=finding.rule.meaning + _WITHOUT_DEFORMATION))


def _verdict(findings: Sequence[Finding], notes: Sequence[str]) -> Verdict:
    return Verdict(
        max((finding.level for finding in findings), key=SEVERITY.__getitem__), tuple(findings), tuple(notes)
    )


def _notes(image: ImageSigns, whose: str = "") -> list[str]:
    """Few lesions of the white matter lower no verdict: they are matched as white matter, which they lie in."""
    told = _told_lesion_ml(image)
    if told is None or _LESION_RULE.bounds.level(told) is not Level.good:
        return []
    matched = "registration matches them as white matter, and " if whose else ""
    swelling = " or swelling round the mass" if image.mass_ml else ""
    told_ml = f"{told:.3g} ml look like lesions of the white matter{swelling} (id 77)"
    return [f"{whose}{told_ml}; {matched}the tables of volumes give them a row of their own."]


def _told_lesion_ml(image: ImageSigns) -> float | None:
    return image.lesion_ml if image.lesion_ml is not None and image.lesion_ml >= _TOLD_ML else None


def _image_rules(image: ImageSigns) -> list[Rule]:
    unneeded = {"T1": {"deep_over_rim"}, "T2": _OF_T1, "FLAIR": _OF_T1}.get(image.contrast or "", set())
    if image.mass_ml:
        unneeded = unneeded | {"handedness"}  # a mass makes a brain more asymmetric than its sides are
    looked = image.contrast is not None
    beside = looked and (image.mass_ml or 0.0) > _BESIDE * (image.drawn_ml or 0.0)
    drawn = DRAWN_RULE if beside else DRAWN_ONLY_RULE
    rules = [drawn if rule.sign == "mass_ml" and image.drawn_ml else rule for rule in IMAGE_RULES]
    if image.mass_ml:
        rules = [replace(rule, meaning=_LOPSIDED_BY_MASS) if rule.sign == "lopsided" else rule for rule in rules]
    return [rule for rule in rules if rule.sign not in unneeded]


def _bounds(rule: Rule, model: ModelRecord) -> Bounds:
    """The model's own, else those of its scheme, else the rule's."""
    general = SCHEME_BOUNDS.get(model.scheme, {}).get(rule.sign, rule.bounds)
    return MODEL_BOUNDS.get(model.sha256, {}).get(rule.sign, general)


def _finding(rule: Rule, subject: str, signs: PairSigns | ImageSigns, model: ModelRecord, segmented: bool) -> Finding:
    rule, value = replace(rule, bounds=_bounds(rule, model)), getattr(signs, rule.sign)
    if value is None:
        may_miss = rule.sign in _NOT_ALWAYS or (rule.sign in _NEED_STRUCTURES and not segmented)
        return Finding(subject, rule, None, Level.good if may_miss else Level.look)
    return Finding(subject, rule, float(value), rule.bounds.level(float(value)))


def _beyond(value: float, below: float | None, above: float | None) -> bool:
    if value != value:  # not a number is never good
        return below is not None or above is not None
    return (below is not None and value < below) or (above is not None and value > above)
