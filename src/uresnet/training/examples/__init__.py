"""Training examples: what the networks see of the training data, changed at random.

``augment`` changes images for networks that take a pair. ``blocks`` makes blocks for the segmenter, from scans or, by
``synthesis``, from label maps. ``heads`` makes blocks of whole heads for the network that finds brains, and
``any_contrast`` blocks of any contrast: ``contrasts`` says how bright tissues are, ``abnormal`` paints what is ill,
``acquisition`` does what a scanner does. ``draws``, ``geometry`` and ``intensities`` hold what they share.
"""
