"""The reference: near the fast way, by PyTorch's operations alone, with all digits in its files, and said to be it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from solver_images import QUICK, affine, blobs
from uresnet import Registration, UserError, read_transform, register, segment
from uresnet.core import ops
from uresnet.core.exact import computed_exactly
from uresnet.measures.overlap import dice_per_class
from uresnet.solver import DEFAULT_SETTINGS, brain_between, exponentials, residual_velocity, velocity_between
from uresnet.transform import DisplacementField

POINTS_MM, DICE = 0.05, 0.0005  # the most that the fast way may differ by


@pytest.fixture(scope="module", params=list(FIELDS_OF_VIEW))
def both(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Registration, Registration]:
    """The same pair, fast and exact."""
    folder = tmp_path_factory.mktemp("pair")
    files = []
    for name, view, shift in (("moving", "oblique", (5.0, -8.0, 3.0)), ("fixed", request.param, (0.0, 0.0, 0.0))):
        grid = FIELDS_OF_VIEW[view]
        files.append(write_nifti(brain_on(grid, shift), grid, folder / f"{name}.nii.gz"))
    fast, exact = (register(*files, model=tiny_model, exact=wanted) for wanted in (False, True))
    return fast, exact


def test_points_and_labels_are_those_of_the_reference(both: tuple[Registration, Registration]) -> None:
    fast, exact = both
    for brain, name in ((fast.fixed_brain, "transform"), (fast.moving_brain, "inverse")):
        points = brain.grid.points_to_world(np.argwhere(brain.mask.numpy()))
        apart = np.linalg.norm(getattr(fast, name).apply(points) - getattr(exact, name).apply(points), axis=1)
        assert apart.max() < POINTS_MM
        assert np.linalg.norm(getattr(fast, name).apply(points) - points, axis=1).max() > 3  # it does move them
    moving, fixed, warped = (
        [
            torch.from_numpy(fast.scheme.to_classes(getattr(result, f"{name}_segmentation").data.numpy()))
            for result in both
        ]
        for name in ("moving", "fixed", "warped")
    )
    classes = fast.scheme.number_of_classes
    # This network has learnt nothing and is sure of nothing: single labels change. How well they agree may not.
    for first, second in (moving, fixed):
        assert float(dice_per_class(first, second, classes).nanmean()) > 0.998
    before, after = (float(dice_per_class(*labels, classes).nanmean()) for labels in zip(warped, fixed, strict=True))
    assert abs(before - after) < DICE and before > 0.2
    assert exact.record.exact is True and fast.record.exact is None
    torch.testing.assert_close(fast.warped.data, exact.warped.data, atol=0.5, rtol=0)  # of 120


def test_the_files_hold_all_digits(both: tuple[Registration, Registration], tmp_path: Path) -> None:
    for result, name in zip(both, ("fast", "exact"), strict=True):
        result.save(tmp_path / name, report=False)
    for name in ("transform", "inverse_transform"):
        of_file = {way: _fields(read_transform(tmp_path / way / f"{name}.h5").parts) for way in ("fast", "exact")}
        known = _fields(getattr(both[1], name.removesuffix("_transform")).parts)
        assert known and all(map(torch.equal, of_file["exact"], known))
        assert not any(map(torch.equal, of_file["fast"], known))
    for name in ("warped", "jacobian"):
        values = np.asanyarray(nib.Nifti1Image.from_filename(tmp_path / "exact" / f"{name}.nii.gz").dataobj)
        assert np.array_equal(values, getattr(both[1], name).data.numpy())
    records = {way: json.loads((tmp_path / way / "run.json").read_text(encoding="utf-8")) for way in ("fast", "exact")}
    assert records["exact"]["exact"] is True and "exact" not in records["fast"]
    with pytest.raises(UserError, match="leave field_spacing out"):
        both[1].save(tmp_path / "other", field_spacing=2.0)
    assert not (tmp_path / "other").exists()


def _fields(parts: object) -> list[torch.Tensor]:
    return [part.displacement for part in parts if isinstance(part, DisplacementField)]  # type: ignore[attr-defined]


def test_no_compiled_loop_takes_part(
    pair_of_views: tuple[Path, Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a compiled loop")

    monkeypatch.setattr(ops, "in_parallel", forbidden)
    register(*pair_of_views, model=tiny_model, exact=True).save(tmp_path / "out", formats=["fsl"])
    labels = segment(pair_of_views[0], model=tiny_model, exact=True)
    assert labels.record.exact is True
    with pytest.raises(AssertionError, match="a compiled loop"):
        register(*pair_of_views, model=tiny_model)


@pytest.fixture
def pair_of_views(tmp_path: Path) -> tuple[Path, Path]:
    first, second = (
        write_nifti(brain_on(FIELDS_OF_VIEW[view]), FIELDS_OF_VIEW[view], tmp_path / f"{view}.nii.gz")
        for view in ("LAS", "oblique")
    )
    return first, second


def test_a_pair_has_no_reference_on_a_gpu(pair_of_views: tuple[Path, Path], tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"^uresnet\.register: Exact results are computed on the CPU, not on cuda"):
        register(*pair_of_views, model=tiny_model, exact=True, device="cuda")
    with pytest.raises(UserError, match=r"^uresnet\.segment: exact is "):
        segment(pair_of_views[0], model=tiny_model, exact="yes")  # type: ignore[arg-type]


def test_the_solver_ends_near_its_reference() -> None:
    """Velocity, residual velocity, both exponentials: with one correction less and in the region of the brain alone."""
    moving, fixed, log = blobs(affine(0.08, 0.03, 1.0)), blobs(affine(-0.05, 0.0, -0.5)), np.zeros((4, 4))

    def solved() -> torch.Tensor:
        velocity = velocity_between(moving, fixed, log, QUICK)
        brain = brain_between(moving, fixed, log, velocity, 2)
        residual = residual_velocity(moving, fixed, log, velocity, QUICK, brain)
        smoothing = DEFAULT_SETTINGS.smoothing
        return torch.stack(exponentials(velocity, 2, moving.intensities.shape[2:], brain, residual, smoothing, 0.7))

    fast = solved()
    with computed_exactly():
        exact = solved()
    seen = torch.nn.functional.interpolate(moving.probabilities[None, 1:].sum(1, True), size=fast.shape[2:]) > 0.02
    apart = (fast - exact).norm(dim=1)[:, seen[0, 0]]
    assert 0 < float(apart.mean()) < POINTS_MM / 5 and float(apart.flatten()[::5].quantile(0.999)) < POINTS_MM
    assert float(fast.norm(dim=1).max()) > 1
