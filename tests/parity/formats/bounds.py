"""How far apart two programs may be on the same file: the bounds that the tests hold, and the table in the documents.

``python tests/parity/formats/bounds.py`` writes the table into ``docs/conventions.md``. Bounds are a few times what was
measured when they were set, so that the rounding of another processor or version does not break them.
"""

from __future__ import annotations

from pathlib import Path

FORMS = ("paper", "mid-space")
"""T(x) = A(x + d(x)), and a deformation between two affines."""

Row = tuple[str, str, str]
"""(file, program, what is compared). A row that ends in "(FORM)" is of this form of transform alone."""

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "conventions.md"
START, END = "<!-- written by tests/parity/formats: begin -->", "<!-- written by tests/parity/formats: end -->"

BOUNDS: dict[str, dict[str, dict[tuple[str, str], float]]] = {
    "test_itk_composites": {
        "transform.h5": {
            ("SimpleITK", "image"): 1e-4,
            ("SimpleITK", "points"): 1e-4,
            ("antspyx", "image"): 1e-4,
            ("antspyx", "points"): 1e-4,
            ("nitransforms", "points at the field's voxels"): 2e-4,
        },
    },
    "test_itk_inverse": {
        "inverse_transform.h5": {
            ("antspyx", "image"): 1e-4,
        },
    },
    "test_ants": {
        "ants_0GenericAffine.mat (inverted) + ants_1InverseWarp.nii.gz": {
            ("antspyx", "image"): 5e-5,
            ("antspyx", "image, before export (paper)"): 5e-5,
            ("antspyx", "image, before export (mid-space)"): 0.02,
        },
        "ants_1Warp.nii.gz + ants_0GenericAffine.mat": {
            ("SimpleITK", "image"): 5e-5,
            ("SimpleITK", "points"): 2e-5,
            ("antspyx", "image"): 5e-5,
            ("antspyx", "points"): 5e-5,
        },
    },
    "test_greedy": {
        "greedy_affine.mat,-1 + greedy_inverse_warp.nii.gz": {
            ("greedy", "image"): 5e-5,
            ("greedy", "image, before export (paper)"): 5e-5,
            ("greedy", "image, before export (mid-space)"): 0.02,
        },
        "greedy_warp.nii.gz + greedy_affine.mat": {
            ("greedy", "image"): 5e-5,
        },
    },
    "test_nifti": {
        "nifti_inverse_warp.nii.gz": {
            ("antspyx", "image"): 5e-5,
        },
        "nifti_warp.nii.gz": {
            ("SimpleITK", "image"): 5e-5,
            ("SimpleITK", "points at voxels"): 2e-5,
            ("antspyx", "image"): 5e-5,
            ("antspyx", "points at voxels"): 2e-5,
            ("greedy", "image"): 5e-5,
            ("nitransforms", "points at voxels"): 5e-5,
        },
    },
    "test_freesurfer": {
        "freesurfer_affine.lta": {
            ("nitransforms", "matrix"): 5e-6,
            ("surfa", "points"): 5e-6,
        },
        "freesurfer_inverse_warp.mgz": {
            ("surfa", "image"): 5e-5,
        },
        "freesurfer_warp.mgz": {
            ("surfa", "image"): 5e-5,
        },
    },
    "test_fsl": {
        "fsl_flirt.mat": {
            ("fslpy", "matrix"): 1e-5,
        },
        "fsl_inverse_warp.nii.gz": {
            ("fslpy", "image"): 5e-5,
        },
        "fsl_warp.nii.gz": {
            ("fslpy", "image"): 5e-5,
            ("fslpy", "points at voxels"): 5e-5,
        },
    },
    "test_learn2reg": {
        "learn2reg_disp.nii.gz": {
            ("scipy, by the challenge's rule", "image"): 2e-5,
        },
        "learn2reg_inverse_disp.nii.gz": {
            ("scipy, by the challenge's rule", "image"): 2e-5,
        },
    },
    "test_what_ants_finds": {
        # ANTs finds another warp in each run, with float32 errors of 4e-6 to 2e-5 mm in eleven of them.
        "antsRegistration's fwdtransforms": {
            ("uresnet", "points"): 1e-4,
        },
        "antsRegistration's invtransforms": {
            ("uresnet", "points"): 1e-4,
        },
    },
    "test_what_greedy_finds": {
        "greedy's warp + affine": {
            ("uresnet", "image"): 5e-5,
        },
    },
    "test_what_simpleitk_writes": {
        "SimpleITK's composite .h5": {
            ("uresnet", "points"): 1e-5,
        },
        "SimpleITK's composite .tfm": {
            ("uresnet", "points"): 1e-5,
        },
    },
    "test_what_nitransforms_writes": {
        "nitransforms' ITK affine .txt": {
            ("uresnet", "points"): 1e-3,
        },
        "nitransforms' ITK displacement .nii.gz": {
            ("uresnet", "points at voxels"): 1e-5,
        },
    },
    "test_what_surfa_writes": {
        "RAS displacement .nii.gz (intent 1006)": {
            ("uresnet", "points at voxels"): 2e-5,
        },
        "surfa's LTA (vox)": {
            ("uresnet", "points"): 5e-6,
        },
        "surfa's LTA (world)": {
            ("uresnet", "points"): 5e-6,
        },
        "surfa's warp .mgz (abs_crs)": {
            ("uresnet", "points at voxels"): 1e-4,
        },
        "surfa's warp .mgz (abs_ras)": {
            ("uresnet", "points at voxels"): 5e-5,
        },
        "surfa's warp .mgz (disp_crs)": {
            ("uresnet", "points at voxels"): 1e-4,
        },
        "surfa's warp .mgz (disp_ras)": {
            ("uresnet", "points at voxels"): 2e-5,
        },
    },
    "test_what_fslpy_writes": {
        "fslpy's FLIRT matrix": {
            ("uresnet", "points"): 2e-5,
        },
        "fslpy's warp (absolute)": {
            ("uresnet", "points at voxels"): 5e-5,
        },
        "fslpy's warp (relative)": {
            ("uresnet", "points at voxels"): 2e-5,
        },
    },
    "test_forward_then_inverse_of_one_file": {
        "freesurfer_warp.mgz, then freesurfer_inverse_warp.mgz": {
            ("uresnet", "points"): 0.1,
        },
        "fsl_warp.nii.gz, then fsl_inverse_warp.nii.gz": {
            ("uresnet", "points"): 0.1,
        },
        "learn2reg_disp.nii.gz, then learn2reg_inverse_disp.nii.gz": {
            ("uresnet", "points"): 0.1,
        },
        "nifti_warp.nii.gz, then nifti_inverse_warp.nii.gz": {
            ("uresnet", "points"): 0.1,
        },
        "transform.h5, then inverse_transform.h5": {
            ("uresnet", "points"): 0.1,
        },
    },
    "test_forward_then_inverse_of_a_warp_and_an_affine": {
        "ants_1Warp.nii.gz + 0GenericAffine.mat, then its inverse": {
            ("uresnet", "points"): 0.1,
        },
        "greedy_warp.nii.gz + affine.mat, then its inverse": {
            ("uresnet", "points"): 0.1,
        },
    },
}
"""Test → file → (program, what it compares) → the largest difference allowed: of points in mm, else of image values."""


def rows_of(test: str, form: str | None = None) -> dict[Row, float]:
    """What ``test`` has to compare, for a transform of ``form`` (None: of any)."""
    others = tuple(f"({name})" for name in FORMS if form is not None and name != form)
    found = {(file, *row): bound for file, rows in BOUNDS[test].items() for row, bound in rows.items()}
    return {row: bound for row, bound in found.items() if not row[2].endswith(others)}


def table() -> str:
    """All bounds as a table in Markdown."""
    rows = sorted(row for test in BOUNDS for row in rows_of(test).items())
    lines = ["| file | opened by | what is compared | apart by less than |", "|---|---|---|---|"]
    for (file, program, what), bound in rows:
        unit = "of an image from −3 to 3" if what.startswith("image") else "mm"
        lines.append(f"| `{file}` | {program} | {what} | {bound:g} {unit} |")
    return "\n".join(lines)


def documented() -> str:
    """The table as it stands in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return text[text.index(START) + len(START) : text.index(END)].strip()


def write_document() -> None:
    """Put the table into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, after = text[: text.index(START) + len(START)], text[text.index(END) :]
    DOCUMENT.write_text(f"{before}\n\n{table()}\n\n{after}", encoding="utf-8")


if __name__ == "__main__":
    write_document()
