"""Signs of a good pair of images, and of a model, to be spoilt one by one."""

from __future__ import annotations

from uresnet.results.record import ModelRecord
from uresnet.results.signs import ImageSigns, PairSigns

BRAIN = ImageSigns(
    brain_ml=1300,
    width=0.8,
    height=0.78,
    distance=1.2,
    deep_over_rim=0.25,
    handedness=0.4,
    white_over_grey=1.4,
    grey_over_csf=1.5,
    labelled=0.93,
    missing=0,
    lopsided=0.01,
)
GOOD = PairSigns(
    mean_dice=0.8,
    dice={"Cerebral-Cortex": 0.8},
    overlap=0.98,
    correlation=0.85,
    folding_fraction=0.001,
    inverse_mean_mm=0.05,
    inverse_max_mm=1.0,
    moving=BRAIN,
    fixed=BRAIN,
    crossed=0.01,
    scheme="freesurfer28",
    model="some",
)
MODEL = ModelRecord(name="some", kind="midspace", sha256="0" * 64, scheme="freesurfer28")
