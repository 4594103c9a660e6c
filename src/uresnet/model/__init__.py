"""Networks: tensors in, parameters out. They know no grid, no file and no loss."""
