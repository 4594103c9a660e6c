"""Examples of any contrast: reproducible, labelled as they were, with the T1 of the same brain."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from small_training import STILL
from uresnet.config import ContrastConfig
from uresnet.core.labels import SCHEMES
from uresnet.training.data.classes import class_table
from uresnet.training.data.dataset import Scan
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.any_contrast import AnyContrastMaker, Remapper, Sources, doubtful_white_matter
from uresnet.training.examples.blocks import NOT_JUDGED, Block

SCHEME = SCHEMES["freesurfer34"]
LESION_ID = 77
LESION, MASS = SCHEME.classes_of((LESION_ID,))[0], SCHEME.classes_of((25, 57))[0]
N = 32
HEALTHY = ContrastConfig(
    natural=0.0,
    remapped=1.0,
    families=1.0,
    lesions=0.0,
    mass=0.0,
    stroke=0.0,
    slices=0.0,
    coarse=0.0,
    uneven=0.0,
    cut=0.0,
)
QUIET = replace(HEALTHY, bias=0.0, noise=0.0)
BLOCKS = replace(STILL, shape=(N, N, N))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def brains(count: int = 2) -> DeviceStore:
    """T1-weighted balls of white matter in cortex round ventricles, with a left and a right half."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(N)] * 3, indexing="ij")).float()
    away = (grid - (N - 1) / 2).norm(dim=0) / (N / 2)
    labels, image = torch.zeros((N, N, N), dtype=torch.uint8), torch.zeros((N, N, N), dtype=torch.uint8)
    for reach, left, right, value in ((0.95, 3, 42, 150), (0.7, 2, 41, 220), (0.25, 4, 43, 50)):
        sides = torch.where(grid[0] < N / 2, left, right).to(torch.uint8)
        labels[away < reach], image[away < reach] = sides[away < reach], value
    scans = tuple(Scan(str(n), str(n), "train") for n in range(count))
    return DeviceStore(scans, image.expand(count, 1, N, N, N), labels.expand(count, 1, N, N, N), 1 / 255)


def maker(config: ContrastConfig, with_map: bool = False, blocks: object = BLOCKS) -> AnyContrastMaker:
    store = brains()
    maps = store.labels[:1] if with_map else None
    return AnyContrastMaker(config, blocks, Sources(store, maps, [torch.ones(6, 5, 7)]), SCHEME)  # type: ignore[arg-type]


def middle_of(block: Block, structure: int) -> float:
    return float(block.image[block.classes == SCHEME.classes_of((structure,))[0]].median())


def test_the_seed_decides_all() -> None:
    everything = replace(ContrastConfig(), lesions=0.6, mass=0.6, stroke=0.6, slices=0.5, coarse=0.5, cut=0.5)
    moving = replace(BLOCKS, rotation=10.0, elastic=0.5, ventricles=0.5, flip=0.5, synthetic=0.5)
    make = maker(everything, with_map=True, blocks=moving)
    kinds = set()
    for seed in range(5):
        first, again, other = make(generator(seed)), make(generator(seed)), make(generator(seed + 100))
        assert torch.equal(first.image, again.image) and torch.equal(first.classes, again.classes)
        assert first.t1 is not None and again.t1 is not None and torch.equal(first.t1, again.t1)
        assert not torch.equal(first.image, other.image)
        for volume in (first.image, first.t1):
            assert volume.shape == (1, 1, N, N, N) and bool(torch.isfinite(volume).all())
            assert float(volume.min()) >= 0 and float(volume.max()) <= 1
        kinds |= set(first.classes.unique().tolist())
    assert {LESION, MASS} <= kinds


@pytest.mark.parametrize("natural", [0.0, 1.0])
def test_without_abnormal_tissue_labels_and_t1_are_those_of_the_scan(natural: float) -> None:
    store = brains()
    make = maker(replace(HEALTHY, natural=natural, remapped=1 - natural, slices=0.5, coarse=0.5, uneven=0.5))
    expected = class_table(SCHEME)[store.labels[:1].long()]
    for seed in range(6):
        block = make(generator(seed))
        assert torch.equal(block.classes.long(), expected)
        known = block.image > 0
        assert block.t1 is not None
        torch.testing.assert_close(block.t1[known], (store.images[:1].float() / 255)[known])


@pytest.mark.parametrize("kind", ["remapped", "painted", "map"])
def test_images_have_the_order_of_t1_t2_flair_or_pd(kind: str) -> None:
    make = maker(replace(QUIET, remapped=float(kind == "remapped")), kind == "map", replace(BLOCKS, synthetic=1.0))
    orders = set()
    for seed in range(16):
        block = make(generator(seed))
        middles = {"w": middle_of(block, 2), "g": middle_of(block, 3), "f": middle_of(block, 4)}
        orders.add("".join(sorted(middles, key=lambda name: middles[name])))
    assert orders <= {"fgw", "wgf", "fwg", "wfg"} and {"fgw", "wgf", "fwg"} <= orders


def test_scans_of_other_contrasts_are_shown_as_they_are() -> None:
    """A drawn T2, dark where the T1 is bright, with a lesion of its own: its labels, and the T1 that came with it."""
    scans = brains(1)
    labels = torch.where((scans.labels == 2) & (torch.arange(N).view(-1, 1, 1) < N // 4), LESION_ID, scans.labels)
    dark = torch.where(scans.images > 0, 255 - scans.images, 0)
    others = DeviceStore(scans.scans, dark, labels, 1 / 255, t1s=scans.images)
    config = replace(QUIET, others=1.0, natural=1.0, remapped=0.0, lesions=1.0, mass=1.0)
    block = AnyContrastMaker(config, BLOCKS, Sources(brains(), others=others), SCHEME)(generator())
    assert torch.equal(block.classes.long(), class_table(SCHEME)[labels.long()])
    assert LESION in block.classes and MASS not in block.classes
    assert middle_of(block, 4) > middle_of(block, 3) > middle_of(block, 2)
    assert block.t1 is not None
    known = block.image > 0
    torch.testing.assert_close(block.t1[known], (scans.images.float() / 255)[known])
    few = AnyContrastMaker(
        replace(config, others=0.0, lesions=0.0, mass=0.0), BLOCKS, Sources(brains(), others=others), SCHEME
    )
    assert LESION not in few(generator()).classes


def test_lesions_are_added_and_nothing_else_changes() -> None:
    healthy, ill = maker(QUIET), maker(replace(QUIET, lesions=1.0, lesion_portion=(0.05, 0.05)))
    for seed in range(6):
        before, after = healthy(generator(seed)), ill(generator(seed))
        lesion = after.classes == LESION
        white = (before.classes == 1) | (before.classes == SCHEME.classes_of((41,))[0])
        assert int(lesion.sum()) == round(0.05 * int(white.sum())) and bool(white[lesion].all())
        assert torch.equal(before.classes[~lesion], after.classes[~lesion])
        assert before.t1 is not None and after.t1 is not None
        # Darker than white matter in the T1 that is to be predicted, which is as it was away from white matter.
        away = F.max_pool3d(white.float(), 5, 1, 2) == 0
        assert float(after.t1[lesion].mean()) < float(before.t1[lesion].mean()) - 0.03
        assert bool((before.t1[away] > 0).any()) and torch.equal(after.t1[away], before.t1[away])


def test_masses_and_strokes_are_of_the_class_of_masses() -> None:
    for config in (replace(QUIET, mass=1.0, mass_radius=(5.0, 6.0)), replace(QUIET, stroke=1.0)):
        found = [int((maker(config)(generator(seed)).classes == MASS).sum()) for seed in range(6)]
        assert max(found) > 100
    blocks = [maker(replace(QUIET, mass=1.0, mass_radius=(5.0, 6.0)))(generator(seed)) for seed in range(6)]
    assert any(bool((block.classes == LESION).any()) for block in blocks)  # oedema


def test_mirroring_exchanges_sides_in_all_three() -> None:
    make, mirrored = (maker(QUIET, blocks=replace(BLOCKS, flip=flip)) for flip in (0.0, 1.0))
    block, turned = make(generator(3)), mirrored(generator(3))
    sides = torch.tensor(SCHEME.mirrored)
    assert torch.equal(turned.classes.long(), sides[block.classes.long()].flip(2))
    assert torch.equal(turned.image, block.image.flip(2))
    assert block.t1 is not None and turned.t1 is not None and torch.equal(turned.t1, block.t1.flip(2))


def test_what_a_cut_field_of_view_lacks_is_background_everywhere() -> None:
    block = maker(replace(QUIET, cut=1.0, cut_share=0.6))(generator(2))
    whole = maker(QUIET)(generator(2))
    missing = (block.classes == 0) & (whole.classes > 0)
    assert block.t1 is not None and int(missing.sum()) > 0
    assert float(block.image[missing].max()) == 0 and float(block.t1[missing].max()) == 0


def test_scans_to_validate_on_get_t2_flair_and_pd_in_turn() -> None:
    remap = Remapper(brains(3))
    labels = remap.store.labels[:1]
    orders = []
    for number in range(3):
        image = remap(number)
        assert torch.equal(image, remap(number)) and float(image[labels == 0].max()) == 0
        middles = {name: float(image[labels == i].median()) for name, i in (("w", 2), ("g", 3), ("f", 4))}
        orders.append("".join(sorted(middles, key=lambda name: middles[name])))
    assert orders[:2] == ["wgf", "fwg"] and orders[2][0] == "w"


def test_dark_deep_white_matter_of_a_scan_is_not_judged() -> None:
    store = brains(1)
    images = store.images.clone()
    images[0, 0, 7:9, 15:17, 15:17] = 90
    dark = replace(store, images=images)
    assert int(doubtful_white_matter(images[0], store.labels[0]).sum()) == 8
    make = AnyContrastMaker(replace(QUIET, natural=1.0, remapped=0.0), BLOCKS, Sources(dark), SCHEME)
    assert int((make(generator()).classes == NOT_JUDGED).sum()) == 8
