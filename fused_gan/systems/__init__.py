"""Networks with their losses and optimizers, trained one step at a time. Knows no file of a run."""
