"""What all other packages use: grids, images, labels, sampling and other operations on voxels, writing of files."""
