"""Two examples for the end of each verb's help."""

from __future__ import annotations

_EXAMPLES = {
    "register": (
        "uresnet register moving.nii.gz fixed.nii.gz -o out",
        "uresnet register moving.nii.gz fixed.nii.gz -o out --refine --export ants,fsl --mask",
    ),
    "segment": ("uresnet segment T1.nii.gz -o out", "uresnet segment sub-*/T1.nii.gz -o segmented --stripped"),
    "cohort": (
        "uresnet cohort images.tsv -o out --to template.nii.gz",
        "uresnet cohort pairs.tsv -o out --workers 4 --memory 32GB",
    ),
    "group": ("uresnet group out", "uresnet group out --quiet"),
    "template": ("uresnet template sub-*/T1.nii.gz -o mean", "uresnet template images.tsv -o mean --iterations 2"),
    "apply": (
        "uresnet apply out/transform.h5 moving_T2.nii.gz --like fixed.nii.gz -o T2_on_fixed.nii.gz",
        "uresnet apply out/transform.h5 points.csv -o moved.csv",
    ),
    "compose": (
        "uresnet compose a_to_b.h5 b_to_c.h5 -o a_to_c.h5",
        "uresnet compose out/transform.h5 rigid.mat -o both.h5",
    ),
    "convert": (
        "uresnet convert out/transform.h5 --to ants -o for_ants_",
        "uresnet convert out/transform.h5 --to fsl --moving moving.nii.gz --fixed fixed.nii.gz -o for_fsl_",
    ),
    "invert": ("uresnet invert out/transform.h5 -o back.h5", "uresnet invert warp.nii.gz -o back.h5"),
    "jacobian": (
        "uresnet jacobian out/transform.h5 --like fixed.nii.gz -o jacobian.nii.gz",
        "uresnet jacobian out/transform.h5 --like fixed.nii.gz --log -o log_jacobian.nii.gz",
    ),
    "train": (
        "uresnet train paper --data data -o run",
        "uresnet train default --data data -o run --device cuda",
    ),
    "evaluate": (
        "uresnet evaluate data --model default -o table",
        "uresnet evaluate data --model paper --model translation -o table",
    ),
    "report": ("uresnet report out", "uresnet report folder_with_many_results"),
    "figure": ("uresnet figure out", "uresnet figure out -o figures --format pdf --width 85"),
    "view": ("uresnet view out", "uresnet view segmented/sub-01_T1 --no-browser --port 8000"),
    "demo": ("uresnet demo", "uresnet demo -o demo --overwrite"),
    "info": ("uresnet info", "uresnet info --json"),
    "pairs": ("uresnet prepare pairs table.tsv -o data", "uresnet prepare pairs table.tsv -o data --help"),
    "freesurfer": ("uresnet prepare freesurfer subjects -o data", "uresnet prepare freesurfer subjects -o data --help"),
    "heads": ("uresnet prepare heads label_maps -o data", "uresnet train brain --data data -o run"),
    "bundle": (
        "uresnet prepare bundle data -o data.tar.xz --label-maps maps",
        "uresnet train any --data data.tar.xz -o run",
    ),
}


def examples_of(verb: str) -> str:
    """What stands at the end of ``uresnet VERB --help``; empty for a verb without examples."""
    lines = [f"  {line}" for line in _EXAMPLES.get(verb.replace("_", "-"), ())]
    return "\n".join(["\b", "Examples:", *lines]) if lines else ""
