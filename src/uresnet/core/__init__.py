"""The ground everything stands on: grids, images, labels, reading volumes, writing files."""
