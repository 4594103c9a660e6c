"""Training examples: what the networks see of the training data, changed at random.

``augment`` changes images for networks that take a pair. ``blocks`` makes blocks for the segmenter, from scans or, by
``synthesis``, from ``label_maps``. ``draws``, ``geometry`` and ``intensities`` hold the changes that they share.
"""
