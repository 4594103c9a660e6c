"""Reader of the two checkpoints that the paper's authors published in 2019 (Keras 2.2.4, HDF5).

Their layers have no telling names, but Keras numbers them in the order in which they were made, and that order and the
shapes are those of the network; a file that differs in either is refused.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import nn

from uresnet.config import ModelConfig
from uresnet.errors import UserError
from uresnet.model.network import UResNet

_MOST_WEIGHTS = 1 << 20  # of one layer; the published networks have 39,183 in all
_KIND = {"conv3d": nn.Conv3d, "conv3d_transpose": nn.ConvTranspose3d, "dense": nn.Linear}


def load_published(path: Path | str, content: bytes | None = None) -> UResNet:
    """The published network of ``path`` (.hdf5), joint or registration only, in its own grid convention.

    ``content`` is what the file holds, where it has been read already. Raises :class:`UserError` when the file cannot
    be read or holds another network.
    """
    arrays = _read_arrays(path, content)
    config = ModelConfig(segmentation="conv3d_15" in arrays, convention="published_2019")
    network = UResNet(config)
    layers = _in_keras_order(network)
    if set(layers) != set(arrays):
        raise UserError(f"{path} is not one of the published 2019 networks: its layers are others.")
    for name, layer in layers.items():
        kernel, bias = arrays[name]["kernel"], torch.from_numpy(arrays[name]["bias"])
        right = kernel.ndim == layer.weight.ndim and bias.shape == layer.bias.shape
        weight = torch.from_numpy(_torch_weight(layer, kernel)) if right else bias
        if weight.shape != layer.weight.shape:
            raise UserError(f"{path} is not one of the published 2019 networks: layer {name} has another shape.")
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise UserError(f"{path} holds weights that are not numbers; copy or download it again.")
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    return network.eval()


def _read_arrays(path: Path | str, content: bytes | None) -> dict[str, dict[str, np.ndarray]]:
    """Layer name (without the model it is nested in) → {"kernel": …, "bias": …}, float32."""
    arrays: dict[str, dict[str, np.ndarray]] = {}

    def visit(name: str, item: object) -> None:
        match = re.search(r"(?:^|/)((?:conv3d|conv3d_transpose|dense)_\d+)/(kernel|bias):0$", name)
        if match and isinstance(item, h5py.Dataset):
            # Checked before it is read: a small file can claim gigabytes, or that its numbers are in another file.
            if item.size > _MOST_WEIGHTS or item.dtype.kind != "f" or item.external or item.is_virtual:
                raise ValueError(f"{name} cannot be a layer of these networks")
            arrays.setdefault(match[1], {})[match[2]] = np.asarray(item, dtype=np.float32)

    try:
        with h5py.File(path if content is None else io.BytesIO(content), "r") as file:
            nested = isinstance(file.get("model_weights", getlink=True), h5py.HardLink)
            group = file["model_weights"] if nested else file
            if isinstance(group, h5py.Group):
                group.visititems(visit)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise UserError(
            f"{path} cannot be read as a Keras checkpoint (HDF5); give one of the two that the authors published."
        ) from error
    if any(set(pair) != {"kernel", "bias"} for pair in arrays.values()):
        raise UserError(f"{path} is not one of the published 2019 networks: a layer lacks its kernel or bias.")
    return arrays


def _in_keras_order(network: UResNet) -> dict[str, Any]:
    """Our layers by their Keras names: numbered per kind, in the order in which the 2019 code makes them."""
    parts: list[nn.Module] = [network.encoder, network.deformable_decoder, network.deformable_head]
    if network.segmentation_decoder is not None and network.segmentation_head is not None:
        parts += [network.segmentation_decoder, network.segmentation_head]
    parts.append(network.affine_head)
    count = dict.fromkeys(_KIND, 0)
    named: dict[str, Any] = {}
    for layer in (layer for part in parts for layer in part.modules()):
        for kind, cls in _KIND.items():
            if type(layer) is cls:
                count[kind] += 1
                named[f"{kind}_{count[kind]}"] = layer
    return named


def _torch_weight(layer: nn.Module, kernel: np.ndarray) -> np.ndarray:
    """Keras kernels are (kd, kh, kw, in, out), transposed ones (kd, kh, kw, out, in), dense ones (in, out)."""
    if isinstance(layer, nn.Linear):
        return np.ascontiguousarray(kernel.T)
    return np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2))
