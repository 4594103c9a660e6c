"""Examples for a segmenter of any contrast: images of one contrast or another, the T1-weighted image and the classes of
the same brain, with abnormal tissue in all three.

A T1-weighted scan keeps its contrast, is remapped, or is painted from its labels; a label map is always painted. Then
comes what is abnormal, then what scanner and brain extraction do. A scan of another contrast, whose T1 is known, is
shown as it is, with the abnormal tissue that it has. The shape is changed as in
:mod:`uresnet.training.examples.blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.config import BlockConfig, ContrastConfig
from uresnet.core.coordinates import identity_coordinates
from uresnet.core.labels import LabelScheme
from uresnet.core.sampling import sample
from uresnet.training.data.classes import class_table
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples import abnormal, acquisition
from uresnet.training.examples.blocks import NOT_JUDGED, Block, BlockMaker
from uresnet.training.examples.contrasts import (
    FAMILIES,
    Family,
    Tissues,
    any_table,
    bent,
    draw_tissues,
    grained,
    grey_table,
    mean_tissues,
    mixed,
    painted,
    remapped,
)
from uresnet.training.examples.draws import between, chance, fraction
from uresnet.training.examples.geometry import ventricle_slope
from uresnet.training.examples.intensities import blurred
from uresnet.training.examples.synthesis import grey_values

_EDGE = 0.6  # voxels by which abnormal tissue is blurred: shapes end at tissues, which have sharp edges
_DOUBTFUL = 3.0  # standard deviations below the mean of deep white matter, at least one step of brightness


@dataclass(frozen=True, eq=False)
class Scene:
    """A brain on the voxels of a block: all (1, 1, I, J, K), ``labels`` FreeSurfer ids uint8, ``t1`` and ``image`` in
    [0, 1] with 0 outside the brain. ``tissues`` are those of the image, whose contrast is of a ``family``.

    ``painted`` holds the ids of abnormal tissue, 0 elsewhere; ``doubtful`` where the labels are not to be believed.
    """

    labels: Tensor
    t1: Tensor
    image: Tensor
    family: Family
    tissues: Tissues
    painted: Tensor
    doubtful: Tensor

    @property
    def brain(self) -> Tensor:
        """What is labelled or seen, bool: labels of scans often leave out fluid at the surface."""
        return (self.labels > 0) | (self.t1 > 0)


@dataclass(frozen=True, eq=False)
class Sources:
    """What examples are made from: T1-weighted scans, label maps (M, 1, I, J, K), if any, the shapes of ``strokes``,
    masks (i, j, k), and scans of ``others``, contrasts whose T1 is known."""

    scans: DeviceStore
    label_maps: Tensor | None = None
    strokes: Sequence[Tensor] = ()
    others: DeviceStore | None = None


class AnyContrastMaker:
    """Makes random :class:`Block` s of any contrast."""

    def __init__(self, config: ContrastConfig, blocks: BlockConfig, sources: Sources, scheme: LabelScheme) -> None:
        store, self.strokes, self.others = sources.scans, sources.strokes, sources.others
        self.config = config
        self.scheme = scheme
        self.maker = BlockMaker(blocks, store, sources.label_maps, scheme)
        self.other_slopes = [] if self.others is None else [ventricle_slope(volume) for volume in self.others.labels]
        self.class_of_id = class_table(scheme, store.images.device).to(torch.uint8)
        pairs = zip(store.images, store.labels, strict=True)
        self.doubtful = torch.stack([doubtful_white_matter(image, labels) for image, labels in pairs])

    def __call__(self, generator: torch.Generator) -> Block:
        """One block; all that is random in it comes from the generator."""
        if self.others is not None and chance(self.config.others, generator):
            scene, class_of_id = self._of_other(self.others, generator), self.maker.scans.class_of_id
        else:
            scene, class_of_id = self._scene(generator)
            scene = self._with_abnormal_tissue(scene, generator)
        block = self._acquired(scene, class_of_id, generator)
        return self._mirrored(block) if chance(self.maker.config.flip, generator) else block

    # -- the brain and its contrast ------------------------------------------------------------------------------

    def _scene(self, generator: torch.Generator) -> tuple[Scene, Tensor]:
        """A healthy brain, perhaps with room for a mass, and the class of each id that may be believed."""
        maker = self.maker
        from_map = maker.label_maps is not None and chance(maker.config.synthetic, generator)
        volumes = maker.label_maps if maker.label_maps is not None and from_map else maker.scans
        number = int(torch.randint(len(volumes.labels), (1,), generator=generator, device=generator.device))
        chosen = slice(number, number + 1)
        volume = volumes.labels[chosen]
        coordinates = maker.coordinates(volume.shape[2:], volumes.slopes[number], generator)
        labels = sample(volume, coordinates, mode="nearest").to(torch.uint8)
        mass = None
        if chance(self.config.mass, generator):
            mass = abnormal.draw_mass(labels, self.config.mass_radius, generator)
        if mass is not None:
            own = mass.before(identity_coordinates(coordinates.shape[2:], coordinates.device))
            coordinates = sample(coordinates, own, padding="border")
            labels = sample(volume, coordinates, mode="nearest").to(torch.uint8)
        nothing = torch.zeros_like(labels)
        scene = Scene(labels, nothing.float(), nothing.float(), "T1", Tissues(0, 0, 0), nothing, nothing.bool())
        if from_map:
            scene = self._of_map(scene, volume, coordinates, generator)
        else:
            scene = self._of_scan(scene, number, coordinates, generator)
        return (scene if mass is None else self._with_mass(scene, mass, generator)), volumes.class_of_id

    def _of_other(self, store: DeviceStore, generator: torch.Generator) -> Scene:
        """A scan of another contrast as it is."""
        assert store.t1s is not None
        number = int(torch.randint(len(store.labels), (1,), generator=generator, device=generator.device))
        chosen = slice(number, number + 1)
        coordinates = self.maker.coordinates(store.labels.shape[2:], self.other_slopes[number], generator)
        labels = sample(store.labels[chosen], coordinates, mode="nearest").to(torch.uint8)
        image, t1 = (sample(v[chosen].float() * store.image_scale, coordinates) for v in (store.images, store.t1s))
        nothing = torch.zeros_like(labels)
        image = image.clamp(0, 1) ** (2 ** between(-0.5, 0.5, generator))
        return Scene(labels, t1 * (image > 0), image, "any", Tissues(0, 0, 0), nothing, nothing.bool())

    def _of_map(self, scene: Scene, volume: Tensor, coordinates: Tensor, generator: torch.Generator) -> Scene:
        """A label map in the contrast of the scans, and in another one."""
        t1_table = self.maker.greys[0].clone()
        t1_table[0] = 0
        t1 = grained(painted(volume, coordinates, t1_table), scene.labels, 0.05, generator)
        scene = replace(scene, t1=t1 * (scene.labels > 0))
        return self._painted(scene, volume, coordinates, generator)

    def _of_scan(self, scene: Scene, number: int, coordinates: Tensor, generator: torch.Generator) -> Scene:
        """A scan as it is, remapped, or painted."""
        store, chosen = self.maker.store, slice(number, number + 1)
        t1 = sample(store.images[chosen].float() * store.image_scale, coordinates)
        scene = replace(scene, t1=t1)
        kind = fraction(generator)
        tissues = mean_tissues(t1, scene.labels, self.maker.greys[0])
        if kind < self.config.natural:
            doubtful = sample(self.doubtful[chosen].float(), coordinates, mode="nearest") > 0
            gamma = 2 ** between(-0.7, 0.7, generator)
            seen = Tissues(*(max(value, 0.0) ** gamma for value in (tissues.white, tissues.grey, tissues.fluid)))
            return replace(scene, image=t1.clamp(0, 1) ** gamma, tissues=seen, doubtful=doubtful)
        volume = store.labels[chosen]
        if kind >= self.config.natural + self.config.remapped:
            return self._painted(scene, volume, coordinates, generator)
        family, wanted, table = self._contrast(generator)
        image = bent(t1, generator) if family == "any" else remapped(t1, tissues, wanted, generator)
        share = between(0.15, 0.7, generator) if chance(0.6, generator) else 0.0
        if share:
            # The labels leave out fluid at the surface, which the scan has: it keeps its own brightness.
            paint = torch.where(scene.labels > 0, painted(volume, coordinates, table), image)
            image = mixed(image, paint, share, generator)
        return replace(scene, image=image * (t1 > 0), family=family, tissues=wanted)

    def _painted(self, scene: Scene, volume: Tensor, coordinates: Tensor, generator: torch.Generator) -> Scene:
        family, tissues, table = self._contrast(generator)
        image = painted(volume, coordinates, table)
        # What a scan shows and its labels leave out is mostly fluid between brain and skull.
        image = torch.where((scene.labels == 0) & (scene.t1 > 0), table[24], image)
        image = grained(image, scene.labels, between(0.02, 0.16, generator), generator)
        image = blurred(image, between(0.0, 0.6, generator)) * scene.brain
        return replace(scene, image=image, family=family, tissues=tissues)

    def _contrast(self, generator: torch.Generator) -> tuple[Family, Tissues, Tensor]:
        """A family, the brightness of its tissues, and a grey value for every id."""
        if chance(self.config.families, generator):
            number = int(torch.randint(len(FAMILIES), (1,), generator=generator, device=generator.device))
            tissues = draw_tissues(FAMILIES[number], generator)
            return FAMILIES[number], tissues, grey_table(tissues, between(0.0, 0.4, generator), generator)
        table = any_table(generator)
        return "any", Tissues(*(float(table[i]) for i in (2, 3, 4))), table

    # -- abnormal tissue -----------------------------------------------------------------------------------------

    def _with_abnormal_tissue(self, scene: Scene, generator: torch.Generator) -> Scene:
        c = self.config
        if chance(c.lesions, generator):
            low, high = c.lesion_portion
            portion = low * (high / low) ** fraction(generator)
            share = abnormal.white_matter_lesions(scene.labels, portion, generator)
            scene = self._blended(scene, share, "lesion", generator)
        if self.strokes and chance(c.stroke, generator):
            number = int(torch.randint(len(self.strokes), (1,), generator=generator, device=generator.device))
            share = abnormal.stroke(scene.labels, scene.brain, self.strokes[number], generator)
            scene = self._blended(scene, share, "cavity", generator)
        return scene

    def _with_mass(self, scene: Scene, mass: abnormal.Mass, generator: torch.Generator) -> Scene:
        if chance(self.config.infiltrating, generator):
            share = abnormal.infiltration(mass, scene.labels, scene.brain, generator)
            return self._blended(scene, share, "infiltration", generator)
        parts = abnormal.mass_shape(mass, scene.labels, scene.brain, generator)
        scene = self._blended(scene, parts.oedema, "lesion", generator)
        scene = self._blended(scene, parts.whole, "core", generator)
        return self._blended(scene, parts.rim, "rim", generator)

    def _blended(self, scene: Scene, share: Tensor, kind: abnormal.Kind, generator: torch.Generator) -> Scene:
        """The scene with abnormal tissue in a ``share`` of its voxels, in the image and in the T1, and with its ids.

        The rim of a mass in a T1-weighted image may be bright, from a contrast agent, which the T1 to predict lacks.
        """
        amount = fraction(generator)
        t1_tissues = mean_tissues(scene.t1, scene.labels, self.maker.greys[0])
        value = abnormal.brightness(kind, scene.family, scene.tissues, amount, generator)
        value_in_t1 = abnormal.brightness(kind, "T1", t1_tissues, amount, generator)
        if kind == "rim" and scene.family == "T1" and chance(0.4, generator):
            value = scene.tissues.white * between(1.0, 1.4, generator)
        seen = blurred(share, _EDGE) * scene.brain
        ids = torch.full_like(scene.labels, abnormal.LESION) if kind == "lesion" else abnormal.mass_ids(scene.labels)
        return replace(
            scene,
            image=abnormal.blended(scene.image, seen, value, 0.08, generator),
            t1=abnormal.blended(scene.t1, seen, value_in_t1, 0.04, generator),
            painted=torch.where(share > 0.5, ids, scene.painted),
        )

    # -- acquisition ---------------------------------------------------------------------------------------------

    def _acquired(self, scene: Scene, class_of_id: Tensor, generator: torch.Generator) -> Block:
        c = self.config
        image, brain = scene.image, scene.brain
        kept = brain
        if chance(c.uneven, generator):
            kept = acquisition.stripped_unevenly(brain, generator)
            image = acquisition.with_rim(image, brain, kept, between(0.02, 1.0, generator), generator)
        image = acquisition.with_bias(image, c.bias * fraction(generator), generator)
        if chance(0.4, generator):
            image = blurred(image, between(0.3, 1.1, generator))
        noise = c.noise * fraction(generator) * torch.randn(image.shape, generator=generator, device=image.device)
        if chance(c.slices, generator):
            direction = acquisition.random_direction(generator)
            image = acquisition.thick_slices_along(image, direction, between(*c.thickness, generator), noise)
        else:
            image = image + noise
            if chance(c.coarse, generator):
                sides = [between(1.0, 3.0, generator) for _ in range(3)]
                image = acquisition.coarse(image, (sides[0], sides[1], sides[2]))
        classes = class_of_id[scene.labels.int()]
        classes = torch.where(scene.doubtful, NOT_JUDGED, classes)
        classes = torch.where(scene.painted > 0, self.class_of_id[scene.painted.int()], classes)
        if chance(c.cut, generator):
            held = acquisition.field_of_view(image.shape[2:], c.cut_share, generator)
            kept, classes = kept & held, classes * held
        image = acquisition.to_unit_range(image, kept, between(0, 0.01, generator), between(0.985, 1, generator))
        return Block(image, classes.to(torch.uint8), scene.t1.clamp(0, 1) * (kept & brain))

    def _mirrored(self, block: Block) -> Block:
        """Left and right exchanged in a block."""
        sides = torch.arange(256, device=block.classes.device, dtype=torch.uint8)
        sides[: self.scheme.number_of_classes] = sides.new_tensor(self.scheme.mirrored)
        t1 = None if block.t1 is None else block.t1.flip(2)
        return Block(block.image.flip(2), sides[block.classes.int()].flip(2), t1)


class Remapper:
    """The scans of a store in another contrast, always the same one for a scan: T2, FLAIR and PD in turn."""

    def __init__(self, store: DeviceStore) -> None:
        self.store = store
        self.greys = grey_values(store)[0]

    def __call__(self, number: int) -> Tensor:
        """Scan ``number`` remapped, (1, 1, I, J, K) in [0, 1], 0 outside the brain."""
        images, labels = self.store.batch([number])
        generator = torch.Generator(images.device).manual_seed(number)
        wanted = draw_tissues(FAMILIES[1 + number % 3], generator)
        image = remapped(images, mean_tissues(images, labels, self.greys), wanted, generator)
        return acquisition.to_unit_range(image, images > 0, 0.005, 0.995)


def doubtful_white_matter(image: Tensor, labels: Tensor) -> Tensor:
    """Deep white matter of a T1-weighted scan that is as dark as a lesion which nobody drew, (1, I, J, K) bool."""
    white = abnormal.one_of(labels, abnormal.WHITE_MATTER)
    deep = F.max_pool3d((~white).float()[None], 5, 1, 2)[0] == 0
    values = image[deep].float()
    if len(values) < 2:
        return torch.zeros_like(deep)
    return deep & (image < values.mean() - (_DOUBTFUL * values.std()).clamp_min(1))
