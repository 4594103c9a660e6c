"""Training: packed data, random pairs, augmentation, the objective and the optimisation."""
