"""Tasks: examples, labels, metric and the paper's hyperparameters."""
