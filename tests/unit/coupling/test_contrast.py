"""What contrast an image has, and the T1-weighted image that belongs to it, on a brain of three tissues in layers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from layered_brain import FLAIR, SCHEME, SHAPE, T1, T2, layers
from uresnet.config import ConformSpec, SegmenterConfig
from uresnet.core.choices import Contrast
from uresnet.core.grid import Grid
from uresnet.coupling import couple, look
from uresnet.coupling.contrast import Look, _contrast, _in_slices, look_at
from uresnet.errors import UserError
from uresnet.model.catalogue import ModelCard, find_model
from uresnet.model.checkpoint import MIDSPACE, Model, load_model
from uresnet.model.segmenter import Segmenter, blocks_to_channels
from uresnet.preprocess import Conformed
from uresnet.training.examples.acquisition import thick_slices_along

GRID = Grid.centred(SHAPE, (1, 1, 1), "RAS", (0, 0, 0))


@pytest.mark.parametrize(
    ("white", "grey", "fluid", "contrast"),
    [  # medians of real images
        (0.88, 0.64, 0.19, "T1"),
        (0.56, 0.44, 0.07, "T1"),  # after contrast agent
        (0.81, 0.68, 0.57, "T1"),  # a tumour that presses on the ventricles
        (0.86, 0.51, 0.48, "T1"),  # slices of 6 mm, of somebody with narrow ventricles
        (0.65, 0.51, 0.50, "unknown"),
        (0.24, 0.32, 0.82, "T2"),
        (0.14, 0.22, 0.76, "T2"),
        (0.68, 0.78, 0.57, "FLAIR"),
        (0.68, 0.68, 0.12, "FLAIR"),
        (0.56, 0.51, 0.18, "FLAIR"),
        (0.549, 0.476, 0.235, "FLAIR"),  # thick slices, blurred
        (0.558, 0.441, 0.091, "T1"),  # after contrast agent
        (0.50, 0.50, 0.50, "unknown"),
        (0.90, 0.40, 0.80, "unknown"),
    ],
)
def test_the_order_of_brightness_tells_the_contrast(white: float, grey: float, fluid: float, contrast: str) -> None:
    assert _contrast({"white": white, "grey": grey, "fluid": fluid}) == contrast


def test_tissues_that_were_not_found_tell_none() -> None:
    assert _contrast({}) == "unknown"


@pytest.fixture
def general() -> Model:
    """A network with random weights and synthesis."""
    torch.manual_seed(0)
    config = SegmenterConfig(channels=(4, 8), blocks=(1, 1), hidden=8, classes=35, synthesis=6)
    card = ModelCard("small", MIDSPACE, {}, {}, scheme=SCHEME.name)
    return Model(card, Segmenter(config).eval(), SCHEME, ConformSpec(), "")


def conformed(image: torch.Tensor) -> Conformed:
    return Conformed(image, GRID, image[0, 0] > 0)


def test_one_pass_gives_what_two_would(general: Model) -> None:
    image = torch.rand(1, 1, *SHAPE)
    image[:, :, :5] = 0
    network = general.network
    assert isinstance(network, Segmenter) and network.synthesis is not None
    with torch.inference_mode():
        classes, probabilities, t1 = network.with_t1(image)
        plain = network(image)
        features = torch.cat([network.features(image), blocks_to_channels(image)], dim=1)
        first = network.synthesis(features[0, :, 8, 8, 8])
    assert torch.equal(classes, plain[0]) and torch.equal(probabilities, plain[1])
    assert t1.shape == image.shape and float(t1[:, :, :5].max()) == 0
    torch.testing.assert_close(t1[0, 0, 16, 16, 16], first[0].clamp(0, 1), atol=1e-5, rtol=0)


def test_a_first_look_is_at_one_voxel_of_eight(general: Model) -> None:
    image = torch.rand(1, 1, *SHAPE)
    network = general.network
    assert isinstance(network, Segmenter)
    with torch.inference_mode():
        classes, probability, features = network.first_look(image, [3, 34])
        assert torch.equal(classes, network(image)[0][::2, ::2, ::2])
        torch.testing.assert_close(features, network.features(image))
        for known, found in zip(network.with_t1(image), network.with_t1(image, features), strict=True):
            torch.testing.assert_close(found, known)
        first = network.logits(features, [0])[0, :, 0].softmax(dim=-1)[:, [3, 34]].sum(dim=-1)
    torch.testing.assert_close(probability.flatten(), first)


def test_a_healthy_t1_is_looked_at_no_further(general: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A T1-weighted image with half a millilitre of mass, and any other image, is evaluated whole."""
    network = general.network
    first, suspicion = torch.zeros((16, 16, 16), dtype=torch.uint8), torch.zeros((16, 16, 16))

    def first_look(_: Segmenter, __: torch.Tensor, of: list[int]) -> tuple[torch.Tensor, torch.Tensor, None] | None:
        return (first, suspicion, None) if sorted(of) == [33, 34] else None

    monkeypatch.setattr(type(network), "first_look", first_look)
    for tissues, masses, suspected, whole in (
        (T1, 0, 0.0, False),
        (T1, 61, 0.0, False),
        (T1, 62, 0.0, True),
        (T1, 0, 0.05, True),
        (T2, 0, 0.0, True),
        (FLAIR, 0, 0.0, True),
    ):
        image, classes = layers(tissues)
        first.zero_()
        first.copy_(classes[::2, ::2, ::2])
        first.view(-1)[:masses] = 1 + SCHEME.ids.index(25)
        suspicion.fill_(suspected)
        if suspected:
            image[0, 0, 20:, 4:28, 4:28] *= 0.5  # white matter as dark as in a mass
        assert (look_at(general, conformed(image)).evaluated is not None) is whole


def test_a_model_for_any_contrast_looks_and_takes_over_where_an_image_is_no_t1(
    general: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    specialist = replace(general, card=replace(general.card, name="t1"), general=general)
    image = conformed(torch.rand(1, 1, *SHAPE))
    seen = look_at(general, image)

    def choose(*contrasts: Contrast) -> str:
        answers = iter([replace(seen, contrast=contrast) for contrast in contrasts])
        monkeypatch.setattr("uresnet.coupling.dispatch.look_at", lambda *_: next(answers))
        return look(specialist, *[image] * len(contrasts))[0].name

    assert choose("T1", "T1") == "t1"
    assert choose("T1", "FLAIR") == choose("T2") == choose("unknown", "T1") == "small"
    seen = replace(seen, in_slices=True)
    assert choose("T1") == choose("T1", "T1") == "small"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_are_seen_along_any_axis(axis: int) -> None:
    """In a texture that is as fine along all axes, cut off by the black around it."""
    noise = torch.randn(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(axis))
    image = F.avg_pool3d(F.avg_pool3d(noise, 3, 1, 1), 3, 1, 1) + 1
    direction = F.one_hot(torch.tensor(axis), 3).float()
    for thickness, expected in ((1.0, False), (5.0, True)):
        shown = thick_slices_along(image, direction, thickness)
        shown[:, :, :10] = shown[..., :7] = 0
        assert _in_slices(shown) is expected


def test_long_voxels_are_thick_slices_in_t1_alone(general: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    image = conformed(torch.rand(1, 1, *SHAPE))
    contrasts: tuple[Contrast, ...] = ("T1", "T2")
    for contrast in contrasts:
        monkeypatch.setattr("uresnet.coupling.contrast._contrast", lambda _, contrast=contrast: contrast)
        found = [look_at(general, replace(image, slice_mm=mm)).in_slices for mm in (1.0, 3.0, 4.0)]
        assert found == [False, False, contrast == "T1"]


def test_no_t1_is_predicted_from_a_t1_unless_it_is_wanted(general: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uresnet.coupling.contrast._contrast", lambda _: "T1")
    monkeypatch.setattr("uresnet.coupling.contrast._may_have_mass", lambda *_: True)
    image = conformed(torch.rand(1, 1, *SHAPE))
    for whole in (False, True):
        seen = look_at(general, image, whole).evaluated
        assert seen is not None and torch.equal(seen.as_t1, image.tensor) is not whole


def test_a_model_alone_does_not_look() -> None:
    model = load_model("translation")
    assert look(model, conformed(torch.rand(1, 1, *SHAPE))) == (model, ())


def test_the_model_without_a_name_looks_and_a_named_one_does_not() -> None:
    for name in (None, "auto"):
        file = find_model(name)
        assert file.name == "default" and file.general is not None and file.general.name == "any"
    assert find_model("default").general is None


def test_images_of_one_contrast_are_compared_as_they_are_and_others_as_t1(
    general: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen at what reaches the solver."""
    image = conformed(torch.rand(1, 1, *SHAPE))
    seen = look_at(general, image)
    taken: list[torch.Tensor] = []

    def stop(moving: object, fixed: object, freedom: object) -> None:
        taken.extend([moving.intensities, fixed.intensities])  # type: ignore[attr-defined]
        raise UserError("seen")

    monkeypatch.setattr("uresnet.coupling.midspace._affine_log", stop)
    cases: dict[tuple[Contrast, Contrast], tuple[bool, bool]] = {
        ("T2", "T2"): (True, True),
        ("T1", "T2"): (True, False),
        ("FLAIR", "T2"): (False, False),
    }
    for contrasts, own in cases.items():
        looks: list[Look] = [replace(seen, contrast=contrast) for contrast in contrasts]
        with pytest.raises(UserError, match="seen"):
            couple(general, image, image, "joint", looks=looks)
        assert [torch.equal(x, image.tensor) for x in taken] == list(own)
        assert seen.evaluated is not None
        assert [torch.equal(x, seen.evaluated.as_t1) for x in taken] == [not x for x in own]
        taken.clear()


def test_the_model_for_t1_is_asked_about_the_predicted_t1(general: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    image = conformed(torch.rand(1, 1, *SHAPE))
    seen = look_at(general, image)
    assert seen.evaluated is not None
    asked: list[tuple[float, torch.Tensor, torch.Tensor]] = []

    def together(
        own: Segmenter, _: Segmenter, given: torch.Tensor, shown: torch.Tensor, share: float, twice: bool
    ) -> object:
        asked.append((share, given, shown))
        return own(given, twice)

    monkeypatch.setattr(Segmenter, "together", together)
    t1_model = replace(general, general=general)
    cases: dict[tuple[Contrast, Contrast], int] = {("T1", "T1"): 0, ("T2", "T1"): 2}
    for contrasts, which in cases.items():
        answers = iter([replace(seen, contrast=contrast) for contrast in contrasts])
        monkeypatch.setattr("uresnet.coupling.dispatch.look_at", lambda *_, answers=answers: next(answers))
        chosen, looks = look(t1_model, image, image)
        with suppress(UserError):
            couple(chosen, image, image, "affine", looks=looks)
        assert len(asked) == which
    assert all(torch.equal(given, image.tensor) for _, given, _ in asked)
    assert torch.equal(asked[0][2], seen.evaluated.as_t1) and torch.equal(asked[1][2], image.tensor)
    assert [share for share, _, _ in asked] == [0.5, 0.6]
    # A model for any contrast that was named is asked alone.
    monkeypatch.setattr("uresnet.coupling.dispatch.look_at", lambda *_: replace(seen, contrast="T2"))
    assert look(general, image)[0].specialist is None
