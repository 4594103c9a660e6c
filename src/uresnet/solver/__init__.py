"""Two images with known structures to one deformation: tensors in, velocities out."""
