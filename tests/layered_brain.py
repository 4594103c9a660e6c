"""A brain of three tissues in layers, in the brightness of several contrasts."""

from __future__ import annotations

import torch

from uresnet.core.labels import SCHEMES

SCHEME = SCHEMES["freesurfer34"]
SHAPE = (32, 32, 32)
T1 = {"white": 0.88, "grey": 0.6, "fluid": 0.2}
T2 = {"white": 0.24, "grey": 0.32, "fluid": 0.82}
FLAIR = {"white": 0.6, "grey": 0.8, "fluid": 0.2}


def layers(brightness: dict[str, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """An image (1, 1, I, J, K) of fluid, cortex and white matter, in slabs along the first axis, and the classes."""
    classes = torch.zeros(SHAPE, dtype=torch.long)
    image = torch.zeros(SHAPE)
    for start, stop, structure, tissue in ((4, 12, 4, "fluid"), (12, 20, 3, "grey"), (20, 28, 2, "white")):
        classes[start:stop] = 1 + SCHEME.ids.index(structure)
        image[start:stop] = brightness[tissue]
    return image[None, None], classes
