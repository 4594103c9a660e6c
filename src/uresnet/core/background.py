"""The value that an image has where there is nothing: it fills what lies outside of the image, and is no structure."""

from __future__ import annotations

import numpy as np

_CLEAR = 0.1  # of the border: as common as this, a value is the background. Tissue that is cut off: below 0.03
_CLEAR_OF_LABELS = 0.5
_NARROW, _FAR = 0.05, 5.0  # air with noise: its spread in parts of the image's range, its distance from 0 in spreads


def border_values(data: np.ndarray) -> np.ndarray:
    """The values of the six outermost layers of (I, J, K), flat; edges and corners count more than once."""
    faces = (data[0], data[-1], data[:, 0], data[:, -1], data[:, :, 0], data[:, :, -1])
    return np.concatenate([face.ravel() for face in faces])


def scan_background(values: np.ndarray) -> float:
    """The background of a scan (I, J, K): the commonest value of its border, which may be NaN.

    Where no value is common there, as in tissue that is cut off, it is 0; or the middle of the border's values where
    they hardly differ and lie far from 0, as in the noisy air of CT.
    """
    border = border_values(values)
    common, share = _commonest(border)
    if share >= _CLEAR:
        return common
    border = border[np.isfinite(border)].astype(np.float64)
    low, middle, high = np.quantile(border, (0.25, 0.5, 0.75)) if border.size else (0.0, 0.0, 0.0)
    finite = values[np.isfinite(values)]
    reach = float(finite.max()) - float(finite.min()) if finite.size else 0.0
    if high - low <= _NARROW * reach and abs(middle) > _FAR * (high - low):
        return float(np.rint(middle)) if values.dtype.kind in "iu" else float(np.float32(middle))
    return 0.0


def label_background(values: np.ndarray) -> float:
    """The background of a label map (I, J, K): 0 where it occurs, else the value of most of the border, else 0."""
    if (values == 0).any():
        return 0.0
    common, share = _commonest(border_values(values))
    return common if share >= _CLEAR_OF_LABELS and np.isfinite(common) else 0.0


def _commonest(values: np.ndarray) -> tuple[float, float]:
    """The value that most have, NaN counting as one, and their share."""
    found, counts = np.unique(values, return_counts=True)
    return float(found[counts.argmax()]), float(counts.max()) / values.size
