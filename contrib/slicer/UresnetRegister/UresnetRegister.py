"""3D Slicer module: registers one brain to another, segments both, and loads the result. Two inputs, one button.

See README.md beside this folder.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)


class UresnetRegister(ScriptedLoadableModule):
    """What Slicer's list of modules shows."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "uresnet: register brains"
        parent.categories = ["Registration"]
        parent.contributors = ["The uresnet maintainers"]
        parent.helpText = "Registers the moving brain to the fixed one and segments both. T1-weighted MRI of adults."
        parent.acknowledgementText = "Estienne et al., MICCAI 2019. Not a medical device."


class UresnetRegisterWidget(ScriptedLoadableModuleWidget):
    """Two selectors, a box, a button and a line of text."""

    def setup(self):
        import qt

        ScriptedLoadableModuleWidget.setup(self)
        self.logic = UresnetRegisterLogic()
        form = qt.QFormLayout()
        self.moving, self.fixed = self._selector(), self._selector()
        self.refine = qt.QCheckBox()
        self.button = qt.QPushButton("Register")
        self.said = qt.QLabel()
        self.said.setWordWrap(True)
        for name, widget in (("Moving", self.moving), ("Fixed", self.fixed), ("More accurate", self.refine)):
            form.addRow(name, widget)
        form.addRow(self.button)
        form.addRow(self.said)
        self.layout.addLayout(form)
        self.button.connect("clicked(bool)", self.onRegister)

    def _selector(self):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.setMRMLScene(slicer.mrmlScene)
        return selector

    def onRegister(self, _=False):
        """The button."""
        moving, fixed = self.moving.currentNode(), self.fixed.currentNode()
        if moving is None or fixed is None or moving is fixed:
            self.said.text = "Choose two different volumes."
            return
        with slicer.util.tryWithErrorDisplay("The registration failed.", waitCursor=True):
            self.said.text = self.logic.register(moving, fixed, refine=bool(self.refine.checked), say=self._say)

    def _say(self, text):
        self.said.text = text
        slicer.app.processEvents()


class UresnetRegisterLogic(ScriptedLoadableModuleLogic):
    """The work, without a window: ``UresnetRegisterLogic().register(moving, fixed)`` from Slicer's Python console."""

    def register(self, moving, fixed, refine=False, say=lambda text: None, **options):
        """Registers, loads the results, applies the transform to the moving volume; returns the verdict in words.

        ``options`` are those of ``uresnet.register``.
        """
        uresnet = self.package(say)
        progress = self._progress(say)
        result = uresnet.register(image_of(moving), image_of(fixed), refine=refine, progress=progress, **options)
        with tempfile.TemporaryDirectory(prefix="uresnet-") as folder:
            result.save(Path(folder) / "out", report=False)
            self._load(Path(folder) / "out", moving, fixed)
        return f"{result.verdict}: {' '.join(result.reasons) or 'automatic checks passed; look through the slices.'}"

    def package(self, say):
        """uresnet, installed into Slicer's Python where it is missing."""
        try:
            import uresnet
        except ImportError:
            say("Installing uresnet (once; some minutes) …")
            slicer.util.pip_install("uresnet")
            import uresnet
        return uresnet

    def _load(self, folder, moving, fixed):
        transform = slicer.util.loadTransform(str(folder / "transform.h5"))
        transform.SetName(f"{moving.GetName()} to {fixed.GetName()}")
        # The file maps fixed to moving points, which is what carries the moving volume onto the fixed one.
        moving.SetAndObserveTransformNodeID(transform.GetID())
        for name, volume in (("fixed", fixed), ("moving", moving)):
            path = folder / f"{name}_dseg.nii.gz"
            if path.exists():
                segmentation = slicer.util.loadSegmentation(str(path))
                segmentation.SetName(f"{volume.GetName()} structures")
                if name == "moving":
                    segmentation.SetAndObserveTransformNodeID(transform.GetID())
        slicer.util.setSliceViewerLayers(background=fixed, foreground=moving, foregroundOpacity=0.5)

    @staticmethod
    def _progress(say):
        def told(stage, seconds):
            if seconds is None:
                say(f"{stage} …")

        return told


def image_of(node):
    """(array (I, J, K), 4×4 matrix to RAS mm) of a volume node: what uresnet.register takes."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    affine = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    return slicer.util.arrayFromVolume(node).transpose(2, 1, 0), affine
