"""Arrays as pictures inside a page: grey levels, and colour scales that are safe for the colour-blind."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture

Colours = tuple[tuple[int, int, int], ...]

DIVERGING: Colours = (
    *((5, 48, 97), (67, 147, 195), (209, 229, 240), (247, 247, 247)),
    *((253, 219, 199), (214, 96, 77), (103, 0, 31)),
)
"""Blue through white to red (ColorBrewer RdBu, safe for the colour-blind)."""

SEQUENTIAL: Colours = ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37))
"""Dark purple to yellow (viridis, safe for the colour-blind and of evenly rising lightness)."""

FOLD: tuple[int, int, int] = (255, 214, 0)
"""Where tissue folds: a yellow unlike every colour of ``DIVERGING``."""


@dataclass(frozen=True)
class ColourScale:
    """Values from ``low`` to ``high`` over ``colours``; beyond the ends the end's colour."""

    low: float
    high: float
    colours: Colours

    def paint(self, values: np.ndarray) -> np.ndarray:
        """(…) → (…, 3) uint8."""
        share = np.clip((values - self.low) / max(self.high - self.low, 1e-12), 0, 1) * (len(self.colours) - 1)
        stops = np.array(self.colours, dtype=np.float64)
        painted = [np.interp(share, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
        return np.stack(painted, axis=-1).round().astype(np.uint8)


def grey(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """(rows, columns) → uint8, black and white at the ends of the window."""
    black, white = window
    return (np.clip((values - black) / (white - black), 0, 1) * 255).round().astype(np.uint8)


def nice_limit(values: np.ndarray, smallest: float) -> float:
    """A round number above 98 % of all magnitudes, and not below ``smallest``."""
    if not values.size:
        return smallest
    wanted = max(float(np.percentile(np.abs(values), 98)), smallest)
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= wanted * 0.999))


def data_uri(pixels: np.ndarray, quality: int = 84) -> str:
    """uint8 pixels, (rows, columns) grey or (rows, columns, 3), as a WebP inside a data URI."""
    file = io.BytesIO()
    Picture.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
