"""Numbers about images, segmentations and maps: overlap, surfaces, volumes."""
