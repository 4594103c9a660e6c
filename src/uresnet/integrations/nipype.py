"""uresnet as interfaces of nipype: ``pip install uresnet nipype``.

Each runs the command, so that a workflow sees its log and its exit code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from nipype.interfaces.base import CommandLine, CommandLineInputSpec, File, TraitedSpec, traits

from uresnet.core.choices import Freedom
from uresnet.pipeline.names import segmentation_files


class RegisterInputSpec(CommandLineInputSpec):
    """What ``uresnet register`` is given."""

    moving = File(exists=True, mandatory=True, argstr="%s", position=0, desc="the moving image")
    fixed = File(exists=True, mandatory=True, argstr="%s", position=1, desc="the fixed image")
    out_dir = traits.Str("registered", usedefault=True, argstr="--output %s", desc="folder for the results")
    transform = traits.Enum(*get_args(Freedom), argstr="--transform %s", desc="what may change")
    refine = traits.Bool(argstr="--refine", desc="more accurate, takes longer")
    model = traits.Str(argstr="--model %s", desc="a packaged model or a model file")
    moving_mask = File(exists=True, argstr="--moving-mask %s", desc="brain mask of the moving image")
    fixed_mask = File(exists=True, argstr="--fixed-mask %s", desc="brain mask of the fixed image")
    threads = traits.Int(argstr="--threads %d", nohash=True, desc="CPU threads")
    overwrite = traits.Bool(argstr="--overwrite", desc="replace the results of an earlier run")


class RegisterOutputSpec(TraitedSpec):
    """What it leaves."""

    out_dir = traits.Directory(exists=True, desc="folder with all results")
    warped = File(exists=True, desc="the moving image on the fixed grid")
    transform = File(exists=True, desc="ITK composite, fixed world to moving world")
    inverse_transform = File(exists=True, desc="ITK composite, moving world to fixed world")
    jacobian = File(exists=True, desc="Jacobian determinant on the fixed grid")
    moving_dseg = File(desc="segmentation of the moving image")
    fixed_dseg = File(desc="segmentation of the fixed image")
    warped_dseg = File(desc="segmentation of the moving image on the fixed grid")
    record = File(exists=True, desc="run.json, with the verdict")


class Register(CommandLine):
    """``uresnet register`` in a workflow.

    >>> from uresnet.integrations.nipype import Register
    >>> node = Register(moving="moving.nii.gz", fixed="fixed.nii.gz")
    >>> node.cmdline
    'uresnet register moving.nii.gz fixed.nii.gz --output registered'
    """

    _cmd = "uresnet register"
    input_spec = RegisterInputSpec
    output_spec = RegisterOutputSpec

    def _list_outputs(self) -> dict[str, Any]:
        folder = Path(self.inputs.out_dir).absolute()
        files = {
            "warped": "warped.nii.gz",
            "transform": "transform.h5",
            "inverse_transform": "inverse_transform.h5",
            "jacobian": "jacobian.nii.gz",
            "moving_dseg": "moving_dseg.nii.gz",
            "fixed_dseg": "fixed_dseg.nii.gz",
            "warped_dseg": "warped_dseg.nii.gz",
            "record": "run.json",
        }
        found = {name: str(folder / file) for name, file in files.items() if (folder / file).exists()}
        return {"out_dir": str(folder), **found}


class SegmentInputSpec(CommandLineInputSpec):
    """What ``uresnet segment`` is given."""

    image = File(exists=True, mandatory=True, argstr="%s", position=0, desc="the image")
    out_dir = traits.Str("segmented", usedefault=True, argstr="--output %s", desc="folder for the results")
    model = traits.Str(argstr="--model %s", desc="a packaged model or a model file")
    brain_mask = File(exists=True, argstr="--brain-mask %s", desc="brain mask")
    threads = traits.Int(argstr="--threads %d", nohash=True, desc="CPU threads")
    overwrite = traits.Bool(argstr="--overwrite", desc="replace the results of an earlier run")


class SegmentOutputSpec(TraitedSpec):
    """What it leaves."""

    out_dir = traits.Directory(exists=True, desc="folder with all results")
    labels = File(exists=True, desc="label map, FreeSurfer ids")
    volumes = File(exists=True, desc="volumes.tsv, mm³")
    record = File(exists=True, desc="run.json, with the verdict")


class Segment(CommandLine):
    """``uresnet segment`` in a workflow."""

    _cmd = "uresnet segment"
    input_spec = SegmentInputSpec
    output_spec = SegmentOutputSpec

    def _list_outputs(self) -> dict[str, Any]:
        folder = Path(self.inputs.out_dir).absolute()
        files = segmentation_files(folder, report=False)
        return {"out_dir": str(folder), **{name: str(files[name]) for name in ("labels", "volumes", "record")}}
