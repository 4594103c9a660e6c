"""How a result shows itself in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from uresnet.results.registration import RegisteredPair
    from uresnet.results.segmentation import SegmentedImage


class Shown:
    """A result that a notebook shows with its pictures and its verdict.

    >>> import uresnet
    >>> result = uresnet.segment("image.nii.gz")
    >>> result._repr_html_().startswith("<div")  # what a notebook shows
    True
    >>> len(result.plot(slices=2).axes), len(result.view().volumes)
    (6, 2)
    """

    def _repr_html_(self) -> str:
        from uresnet.report.notebook import result_html

        return result_html(cast("RegisteredPair | SegmentedImage", self))

    def plot(self, slices: int = 3) -> Any:
        """A montage as a matplotlib figure: ``slices`` pictures of every plane with the outlines of the structures.
        Raises :class:`UserError` where matplotlib is missing (``pip install 'uresnet[figures]'``)."""
        from uresnet.report.notebook import result_plot

        return result_plot(cast("RegisteredPair | SegmentedImage", self), slices)

    def view(self, height: int = 420) -> Any:
        """The interactive viewer as a widget ``height`` pixels high for a notebook's cell. Raises :class:`UserError`
        where ipyniivue is missing (``pip install 'uresnet[view]'``)."""
        from uresnet.report.notebook import result_view

        return result_view(cast("RegisteredPair | SegmentedImage", self), height)
