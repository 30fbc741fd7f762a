"""What every test needs."""

import torch

# These sizes are too small for two threads: waiting for each other costs more than it saves.
torch.set_num_threads(1)
