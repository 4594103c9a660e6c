"""Results in a notebook: what is shown, that nothing is loaded, and that names from outside are escaped."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from report_results import judged, made_up_results, made_up_segmentation
from uresnet.errors import UserError
from uresnet.report.notebook import result_html, result_plot, result_view
from uresnet.results.registration import RegisteredPair
from uresnet.results.segmentation import SegmentedImage


@pytest.fixture(scope="module")
def pair() -> RegisteredPair:
    return judged(made_up_results())


@pytest.fixture(scope="module")
def segmented(pair: RegisteredPair) -> SegmentedImage:
    return made_up_segmentation(pair)


def test_the_card_says_the_verdict_and_shows_every_plane(pair: RegisteredPair, segmented: SegmentedImage) -> None:
    for result, rows in ((pair, 2), (segmented, 1)):
        html = result_html(result)
        assert html.count("<img ") == 3 * rows and len(re.findall(r"<path ", html)) >= 3
        assert str(result.verdict).upper() in html
        sources = re.findall(r'(?:src|href)="([^"]*)"', html)
        assert sources and all(source.startswith("data:image/") for source in sources)


def test_text_from_outside_is_escaped(segmented: SegmentedImage) -> None:
    odd = replace(segmented.record.inputs["image"], path="/x/<script>alert(1)<.nii.gz")
    html = result_html(replace(segmented, record=replace(segmented.record, inputs={"image": odd})))
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_the_montage_has_a_picture_for_every_slice(pair: RegisteredPair, segmented: SegmentedImage) -> None:
    pytest.importorskip("matplotlib")
    assert len(result_plot(pair, slices=2).axes) == 2 * 3 * 2
    figure = result_plot(segmented, slices=3)
    assert figure._repr_png_().startswith(b"\x89PNG")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert len(titles) == 9 and all(re.search(r"\d+ mm [LRPAIS]$", title) for title in titles)
    for wrong in (0, 13, "3", True):
        with pytest.raises(UserError, match="plot: slices is"):
            result_plot(segmented, wrong)  # type: ignore[arg-type]


def test_the_viewer_holds_the_images_and_the_convention_of_the_page(
    pair: RegisteredPair, segmented: SegmentedImage
) -> None:
    pytest.importorskip("ipyniivue")
    widget = result_view(pair)
    names = [volume.name for volume in widget.volumes]
    assert names == ["fixed.nii.gz", "warped.nii.gz", "warped_dseg.nii.gz", "jacobian.nii.gz"]
    assert widget.opts.is_radiological_convention and widget.opts.sagittal_nose_left and widget.opts.is_colorbar
    labels = nib.Nifti1Image.from_bytes(gzip.decompress(bytes(result_view(segmented).volumes[1].data)))
    np.testing.assert_array_equal(np.asanyarray(labels.dataobj), segmented.labels.data.numpy())


def test_a_fixed_image_that_is_gone_is_done_without(pair: RegisteredPair) -> None:
    alone = replace(pair, fixed=None)
    assert result_html(alone).count("<img ") == 3
