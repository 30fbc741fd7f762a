"""The experiments: the only place that knows Hydra, Weights & Biases and matplotlib."""
