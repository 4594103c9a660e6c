"""What ``register`` and ``segment`` return, and how it is written to files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock

import torch

from uresnet.core.choices import FormatName, OutputName, SegmentationExtra, check_choices
from uresnet.core.exact import computed_exactly, is_exact
from uresnet.core.files import RECORD, check_output_files, fresh_files, fresh_folder, write_text
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.core.threads import Pool
from uresnet.errors import UserError
from uresnet.io import (
    write_colour_table,
    write_image,
    write_itksnap_labels,
    write_label_table,
    write_labels,
    write_slicer_colours,
)
from uresnet.measures.volumes import volumes_sidecar, volumes_table
from uresnet.pipeline.names import (
    DEFAULT_OUTPUTS,
    LABEL_TABLES,
    OUTPUTS,
    REPORT,
    VOLUMES_SIDECAR,
    is_label_file,
    segmentation_files,
)
from uresnet.pipeline.progress import Progress, Stages, silent
from uresnet.pipeline.rounding import check_spacing, stored_image, stored_jacobian, stored_transform
from uresnet.pipeline.shown import Shown
from uresnet.results.json_values import json_text
from uresnet.results.record import Measures, RunRecord
from uresnet.results.registration import RegisteredPair
from uresnet.results.segmentation import SegmentedImage
from uresnet.transform import Composite, inverse_error
from uresnet.transform_files import TransformPair, export_files, write_itk_composite

Writers = dict[str, Callable[[Path], None]]
"""What writes a file, by the file's name."""

_ONE_FIELD = Lock()
"""Held while a field is rounded and compressed, which takes some hundred megabytes and all threads."""

_LARGE = 30_000_000
"""Bytes of a transform from which on it is written as a compact one: that of two large heads."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Registration(RegisteredPair, Shown):
    """A registered pair with all that a registration knows in memory.

    ``transform`` maps fixed world mm to moving world mm, ``inverse`` moving world mm to fixed world mm. ``measures``
    are exact; ``record`` has them rounded. Where it is ``compact``, its transforms are written into smaller files, with
    displacements rounded to 0.25 mm outside the brain: for cohorts.

    >>> import uresnet
    >>> result = uresnet.register("moving.nii.gz", "fixed.nii.gz")
    >>> result  # doctest: +ELLIPSIS
    <Registration of moving.nii.gz to fixed.nii.gz by tiny: ..., 0 % folds>
    >>> result.warped, result.jacobian.data.min() > 0
    (<Image 48 × 52 × 45, LPS, 3.7 × 3.9 × 3.5 mm>, tensor(True))
    >>> round(result.volumes["fixed"][4])  # mm³ by FreeSurfer id; 4 is the left lateral ventricle
    760403
    """

    moving: Image
    fixed: Image
    transform: Composite
    inverse: Composite
    measures: Measures
    moving_brain: LabelMap
    fixed_brain: LabelMap
    compact: bool = False

    def save(
        self,
        folder: str | Path,
        overwrite: bool = False,
        command: Sequence[str] = (),
        report: bool = True,
        formats: Sequence[FormatName] = (),
        progress: Progress = silent,
        *,
        outputs: Sequence[OutputName] = DEFAULT_OUTPUTS,
        field_spacing: float | None = None,
    ) -> list[Path]:
        """Write the results to ``folder``, with a page to look at unless ``report`` is False: all of them or, after an
        error, none. Returns their paths. ``outputs`` are names of :data:`uresnet.pipeline.names.OUTPUTS`, by default
        all but "mask" (the brain masks) and "stripped" (the images without what lies outside of them). ``formats`` are
        names of :data:`uresnet.transform_files.FORMATS` to write the transform in besides ITK's. ``progress`` receives
        one stage, "write".

        ``transform.h5`` and ``inverse_transform.h5`` hold displacements rounded to 2⁻⁷ mm in and around the brain (an
        error of at most 0.004 mm along an axis), and more coarsely away from it; the Jacobian is rounded to 0.002, the
        warped image by at most 1/8192 of the span of its values.
        With a ``field_spacing`` displacements are on voxels of that many mm: smaller files, and an inverse whose error
        is measured anew for the record. The other ``formats`` are exact. Of an exact registration nothing is rounded.

        Raises :class:`UserError` when the folder exists and ``overwrite`` is not set, or cannot be written, and for a
        ``field_spacing`` of an exact registration.

        >>> import uresnet
        >>> result = uresnet.register("moving.nii.gz", "fixed.nii.gz")
        >>> files = result.save("results", report=False)
        >>> try:
        ...     result.save("results")
        ... except uresnet.UserError as error:
        ...     print(error)
        results exists already; choose another folder, or replace its results with overwrite=True.
        """
        check_choices(
            "Registration.save",
            folder=(folder, str | Path),
            overwrite=(overwrite, bool),
            report=(report, bool),
            formats=(formats, Sequence[FormatName]),
            outputs=(outputs, Sequence[OutputName]),
        )
        check_spacing("Registration.save", field_spacing)
        exact = self.record.exact is True
        if exact and field_spacing is not None:
            raise UserError("Registration.save: exact displacements stay on their voxels; leave field_spacing out.")
        wanted = {file for name in outputs for file in OUTPUTS[name]} - (set() if report else {REPORT})
        with Stages(progress)("write"), computed_exactly(exact):
            result = self if field_spacing is None else self._at_spacing(field_spacing)
            return _write_folder(
                Path(folder), result._writers(wanted, formats, self), result.record, overwrite, command
            )

    @property
    def _tissue(self) -> tuple[LabelMap, LabelMap]:
        """Of (moving, fixed) image: where there is brain, or a structure beyond its mask."""
        pairs = ((self.moving_brain, self.moving_segmentation), (self.fixed_brain, self.fixed_segmentation))
        moving, fixed = (
            brain if labels is None else replace(brain, data=(brain.mask | labels.mask).to(torch.uint8))
            for brain, labels in pairs
        )
        return moving, fixed

    def _at_spacing(self, spacing: float) -> Registration:
        """The same with displacements on voxels of ``spacing`` mm, and the inverse error that this leaves."""
        moving, fixed = self._tissue
        forward = stored_transform(self.transform, fixed, moving, spacing)
        backward = stored_transform(self.inverse, moving, fixed, spacing)
        error = inverse_error(forward, backward, self.fixed_brain)
        measures = replace(self.measures, inverse_mean_mm=error.mean_mm, inverse_max_mm=error.max_mm)
        record = replace(self.record, measures=measures.rounded())
        return replace(self, transform=forward, inverse=backward, measures=measures, record=record)

    def _writers(self, wanted: set[str], formats: Sequence[FormatName], exact: Registration) -> Writers:
        """What writes each of the ``wanted`` files, and the ``formats`` of the ``exact`` transform."""
        moving, fixed = self._tissue
        # The largest first, so that they overlap with everything else; the second field waits for the first.
        writers: Writers = {
            "transform.h5": partial(_write_transform, self.transform, fixed, moving, self.compact),
            "warped.nii.gz": lambda path: write_image(stored_image(self.warped), path),
            "jacobian.nii.gz": lambda path: write_image(stored_jacobian(self.jacobian, fixed), path),
            "inverse_transform.h5": partial(_write_transform, self.inverse, moving, fixed, self.compact),
        }
        segmentations = {
            "moving_dseg.nii.gz": self.moving_segmentation,
            "fixed_dseg.nii.gz": self.fixed_segmentation,
            "warped_dseg.nii.gz": self.warped_segmentation,
        }
        for name, labels in segmentations.items():
            if labels is not None:
                writers[name] = partial(write_labels, labels, scheme=self.scheme)
        if self.scheme is not None:
            writers |= _label_tables(self.scheme, LABEL_TABLES)
            writers["volumes.tsv"] = partial(write_text, _volumes_text(self.scheme, self.volumes, self.record))
            writers[VOLUMES_SIDECAR] = partial(write_text, _sidecar_text(self.volumes, self.record))
        for name, image, brain in (("moving", self.moving, self.moving_brain), ("fixed", self.fixed, self.fixed_brain)):
            writers[f"{name}_brain_mask.nii.gz"] = partial(write_labels, brain)
            writers[f"{name}_stripped.nii.gz"] = partial(_write_stripped, image, brain)
        writers[REPORT] = partial(_write_registration_page, self)
        pair = TransformPair(exact.transform, exact.inverse, self.fixed.grid, self.moving.grid)
        exported = export_files(pair, [name for name in formats if name != "itk"])
        return {name: write for name, write in writers.items() if name in wanted} | exported


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Segmentation(SegmentedImage, Shown):
    """A segmented image that can be saved.

    >>> import uresnet
    >>> uresnet.segment("image.nii.gz")  # doctest: +ELLIPSIS
    <Segmentation of image.nii.gz by tiny: ..., 3 of 3 structures>
    """

    def save(
        self,
        path: str | Path,
        report: bool = True,
        progress: Progress = silent,
        overwrite: bool = False,
        command: Sequence[str] = (),
        *,
        extras: Sequence[SegmentationExtra] = (),
    ) -> list[Path]:
        """Write the label map, its label tables, the volumes, the record with the verdict and, unless ``report`` is
        False, a page to look at: all of them or, after an error, none. Returns their paths.

        ``path`` is a folder, or the name of the label map (.nii, .nii.gz, .mgz), after which the other files beside it
        are named. ``extras`` "mask" and "stripped" are the brain mask and the image without what lies outside of it,
        "t1" the predicted T1-weighted image of ``segment(…, synthesise=True)``, with a page of its own. ``progress``
        receives one stage, "write". Raises :class:`UserError` when one of the files, or the folder, exists and
        ``overwrite`` is not set, or cannot be written.

        >>> import uresnet
        >>> files = uresnet.segment("image.nii.gz").save("segmented", extras=["mask"])
        >>> [file.name for file in files][:3]
        ['dseg.nii.gz', 'dseg.tsv', 'dseg_freeview.txt']
        """
        check_choices(
            "Segmentation.save",
            path=(path, str | Path),
            report=(report, bool),
            overwrite=(overwrite, bool),
            extras=(extras, Sequence[SegmentationExtra]),
        )
        if "t1" in extras and self.predicted_t1 is None:
            raise UserError("Segmentation.save: no T1-weighted image was predicted; segment with synthesise=True.")
        files = segmentation_files(Path(path), report, extras)
        del files["log"]  # the command's
        names = {kind: file.name for kind, file in files.items()}
        record = replace(self.record, command=tuple(command), files=tuple(names.values()))
        with Stages(progress)("write"):
            if not is_label_file(Path(path)):
                with fresh_folder(Path(path), overwrite) as beside:
                    self._write(beside, names, record)
                return list(files.values())
            check_output_files(list(files.values()), overwrite, makes_folder=True)
            with fresh_files(Path(path).parent, overwrite, names["record"]) as beside:
                self._write(beside, names, record)
        return list(files.values())

    def _write(self, beside: Path, names: Mapping[str, str], record: RunRecord) -> None:
        writers: Writers = {
            names["labels"]: partial(write_labels, self.labels, scheme=self.scheme),
            **_label_tables(self.scheme, names),
            names["volumes"]: partial(write_text, _volumes_text(self.scheme, {"image": self.volumes}, self.record)),
            names["sidecar"]: partial(write_text, _sidecar_text({"image": self.volumes}, self.record)),
        }
        if "report" in names:
            writers[names["report"]] = partial(_write_segmentation_page, self)
        if "mask" in names and self.brain is not None:
            writers[names["mask"]] = partial(write_labels, self.brain)
        if "stripped" in names and self.image is not None and self.brain is not None:
            writers[names["stripped"]] = partial(_write_stripped, self.image, self.brain)
        if "t1" in names and self.predicted_t1 is not None:
            writers[names["t1"]] = partial(write_image, self.predicted_t1)
        if "t1_report" in names and self.predicted_t1 is not None:
            writers[names["t1_report"]] = partial(_write_predicted_t1_page, self, self.predicted_t1)
        for name, write in writers.items():
            write(beside / name)
        write_text(replace(record, sizes=_sizes(beside, writers)).to_json(), beside / names["record"])


def _write_transform(transform: Composite, start: LabelMap, end: LabelMap, compact: bool, path: Path) -> None:
    with _ONE_FIELD:
        write_itk_composite(stored_transform(transform, start, end, compact=compact), path, exact=True)
        if not compact and not is_exact() and path.stat().st_size > _LARGE:
            write_itk_composite(stored_transform(transform, start, end, compact=True), path, exact=True)


def _write_stripped(image: Image, brain: LabelMap, path: Path) -> None:
    """The image, 0 outside its brain."""
    write_image(replace(image, data=image.data * brain.mask, invalid=None), path)


def _write_registration_page(result: Registration, path: Path) -> None:
    from uresnet.report.pages import registration_page  # not loaded by a run without pages

    write_text(registration_page(result), path)


def _write_segmentation_page(result: Segmentation, path: Path) -> None:
    from uresnet.report.pages import segmentation_page

    write_text(segmentation_page(result), path)


def _write_predicted_t1_page(result: Segmentation, predicted: Image, path: Path) -> None:
    from uresnet.report.pages import predicted_t1_page

    write_text(predicted_t1_page(result, predicted), path)


def _label_tables(scheme: LabelScheme, names: Mapping[str, str]) -> Writers:
    """What BIDS, Freeview, 3D Slicer and ITK-SNAP read beside a segmentation to name and colour it."""
    return {
        names["table"]: partial(write_label_table, scheme),
        names["freeview"]: partial(write_colour_table, scheme),
        names["slicer"]: partial(write_slicer_colours, scheme),
        names["itksnap"]: partial(write_itksnap_labels, scheme),
    }


def _volumes_text(scheme: LabelScheme, volumes: Mapping[str, Mapping[int, float]], record: RunRecord) -> str:
    brains = {name: image.brain_mm3 for name, image in record.inputs.items()}
    heads = {name: image.intracranial_mm3 for name, image in record.inputs.items()}
    predicted = {name: image.predicted_dice for name, image in record.inputs.items()}
    contrasts = {name: image.contrast for name, image in record.inputs.items()}
    return volumes_table(scheme, volumes, brains, heads, predicted, contrasts)


def _sidecar_text(volumes: Mapping[str, Mapping[int, float]], record: RunRecord) -> str:
    model = f"{record.model.name} ({record.model.sha256[:8]})"
    if record.model.specialist is not None:
        model += f", together with {record.model.specialist.name} ({record.model.specialist.sha256[:8]})"
    if record.model.contrast_by is not None:
        model += f", masses by {record.model.contrast_by.name} ({record.model.contrast_by.sha256[:8]})"
    return json_text(volumes_sidecar(volumes, model))


def _write_folder(
    folder: Path, writers: Writers, record: RunRecord, overwrite: bool, command: Sequence[str]
) -> list[Path]:
    names = (*writers, RECORD)
    with fresh_folder(folder, overwrite) as beside:
        # Compression leaves the interpreter's lock, so that files are written at the same time.
        with Pool(max(1, torch.get_num_threads())) as pool:
            for done in [pool.submit(write, beside / name) for name, write in writers.items()]:
                done.result()
        record = replace(record, command=tuple(command), files=names, sizes=_sizes(beside, writers))
        write_text(record.to_json(), beside / RECORD)
    return [folder / name for name in names]


def _sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Bytes of the files, by which is noticed that one was cut off; not of pages, which may be written again."""
    return {name: (folder / name).stat().st_size for name in names if not name.endswith(".html")}
