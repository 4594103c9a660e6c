"""Writes and executes the notebooks of the documentation: ``python docs/notebooks/execute.py [NAME ...]``.

Each becomes a page of the site too, with the same name and ``.md``.

They show the two brains of ``uresnet demo``, and nothing else. Needs nbclient, ipykernel and matplotlib.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

HERE = Path(__file__).parent

PAIR = [
    "# One pair\n\nTwo public brains: a raw head (Colin 27) is registered to a template (ICBM 152). `uresnet demo` uses the "
    "same two. Any path, nibabel, SimpleITK, ANTsPy, TorchIO or MONAI image, or `(array, affine)` can stand in their place.",
    "from uresnet.datasets.demo import COLIN27, ICBM152, fetch_brain\n\nmoving, fixed = fetch_brain(COLIN27), fetch_brain(ICBM152)",
    "import nibabel as nib\n\nimport uresnet\n\nresult = uresnet.register(nib.load(moving), fixed)\nresult",
    "The cell shows the verdict, the fixed image and the warped one, with the structures of the fixed image. The same as text:",
    "print(repr(result))\nprint(result.verdict, result.reasons)\nprint(result.measures)",
    "A montage, for a slide or a mail. `result.view()` shows the interactive viewer in the cell (needs ipyniivue).",
    "figure = result.plot(slices=3)\nfigure.set_dpi(60)\nfigure",
    "Images come back in the form that the next step needs:",
    'print(result.to_nibabel("jacobian").shape, result.to_sitk().GetSpacing(), result.numpy("moving_segmentation").dtype)',
    "The transform maps points of the fixed world to the moving world, RAS millimetres, and resamples any other image of "
    "the moving space:",
    "print(result.transform.apply([[0.0, -20.0, 10.0], [30.0, 0.0, 5.0]]).round(2))\n"
    "labels = uresnet.apply(result.transform, result.moving_segmentation, fixed)\nlabels",
    'All files, with a page to look at: `result.save("out")`.',
]

GROUP = [
    "# Volumes of a small group\n\nEach image is segmented on its own grid; the volumes are counted in its own voxels. They are "
    "those of this model, not FreeSurfer's: compare only volumes of the same model and version. Here the group is the two "
    "brains of the demo; for many images use `uresnet segment sub-*/T1.nii.gz -o out` or `uresnet cohort`.",
    "from uresnet.datasets.demo import COLIN27, ICBM152, fetch_brain\n\n"
    'images = {"Colin 27": fetch_brain(COLIN27), "ICBM 152": fetch_brain(ICBM152)}',
    "import uresnet\n\nresults = {name: uresnet.segment(path) for name, path in images.items()}\n"
    "for name, result in results.items():\n    print(name, result.verdict, *result.reasons)",
    "A look at every result comes before its numbers:",
    'results["ICBM 152"]',
    "Volumes in ml, and as a share of the brain, which takes out the size of the head:",
    'scheme = results["ICBM 152"].scheme\n'
    'print(f"{\'structure\':<34}" + "".join(f"{name:>20}" for name in results))\n'
    "for structure in scheme.classes:\n"
    "    row = [result.volumes[structure.id] / 1000 for result in results.values()]\n"
    '    brains = [result.record.inputs["image"].brain_mm3 / 1000 for result in results.values()]\n'
    '    cells = "".join(f"{ml:>11.1f} ({100 * ml / brain:4.1f} %)" for ml, brain in zip(row, brains))\n'
    '    print(f"{structure.name:<34}{cells}")',
    "import matplotlib.pyplot as plt\n\n"
    'shown = [c for c in scheme.classes if c.name.split("-", 1)[-1] in ("Hippocampus", "Amygdala", "Caudate", "Putamen")]\n'
    "figure, ax = plt.subplots(figsize=(7, 3), dpi=70)\n"
    "for n, (name, result) in enumerate(results.items()):\n"
    "    ax.bar([i + 0.4 * n for i in range(len(shown))], [result.volumes[c.id] / 1000 for c in shown], 0.38, label=name)\n"
    'ax.set_xticks([i + 0.2 for i in range(len(shown))], [c.name for c in shown], rotation=30, ha="right")\n'
    'ax.set_ylabel("ml")\nax.legend()\nfigure.tight_layout()',
]

NOTEBOOKS = {"one_pair": PAIR, "group_volumes": GROUP}


def cells(texts: list[str]) -> list[nbformat.NotebookNode]:
    """Sentences become text, everything else code."""
    code = ("from ", "import ", "print", "figure", "results[", "scheme")
    return [new_code_cell(text) if text.startswith(code) else new_markdown_cell(text) for text in texts]


def smaller(png: str) -> str:
    """A picture in 128 colours, few of them grey; base64, as notebooks hold it."""
    file = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def page(notebook: nbformat.NotebookNode) -> str:
    """The notebook as Markdown; pictures are in it."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "text/html" in data:
                parts.append(data["text/html"])
            elif "image/png" in data:
                parts.append(f'<img alt="figure" src="data:image/png;base64,{data["image/png"].strip()}">')
            else:
                parts.append(f"```text\n{data['text/plain'].rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def main(names: list[str]) -> None:
    for name in names or NOTEBOOKS:
        notebook = new_notebook(cells=cells(NOTEBOOKS[name]))
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        NotebookClient(notebook, timeout=1800, record_timing=False).execute()
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"{name}-{number}"
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    output["data"]["image/png"] = smaller(output["data"]["image/png"])
        nbformat.write(notebook, HERE / f"{name}.ipynb")
        (HERE / f"{name}.md").write_text(page(notebook), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
