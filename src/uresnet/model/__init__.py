"""Networks, their losses and their files: tensors in, parameters out. They know no grid and no transform."""
