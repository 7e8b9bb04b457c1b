"""What is trained: networks with their losses and optimizers, one step at a time. Knows no file of a run."""
