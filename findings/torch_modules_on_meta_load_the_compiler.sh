#!/usr/bin/env bash
# torch 2.13.0: to make a layer on the device "meta", or an optimiser, imports torch's whole compiler.
#
# The device "meta" is there to look at a network's shapes without its memory, before a file of
# weights is trusted, say. But initial weights are drawn there by Python code that imports
# torch._dynamo and SymPy: a process that does it spends more time and memory than one that makes
# the same layer in full. torch.optim.AdamW does the same when it is made, in every training;
# the function that it calls, torch.optim.adamw.adamw, does not.
#
# Seen, Python 3.11: an embedding of 4 x 4 numbers takes 0.8 CPU seconds and 76 MB on "meta", AdamW
# 0.8 seconds and 74 MB; the embedding on the CPU and the function 0.0 seconds and 2 and 3 MB.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5
cat > measure.py <<'PYTHON'
import sys
import time

import torch
from torch.optim.adamw import adamw


def resident():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1000


def embedding(device):
    with torch.device(device):
        torch.nn.Embedding(4, 4)


def function():
    one, *rest = (torch.zeros(4) for _ in range(4))
    adamw([one], [rest[0]], [rest[1]], [rest[2]], [], [torch.zeros(())], fused=True, amsgrad=False,
          beta1=0.9, beta2=0.999, lr=0.1, weight_decay=0.0, eps=1e-8, maximize=False)


ways = {
    "cpu": lambda: embedding("cpu"),
    "meta": lambda: embedding("meta"),
    "AdamW": lambda: torch.optim.AdamW([torch.zeros(4, requires_grad=True)]),
    "adamw": function,
}
way = sys.argv[1]
began, before = time.process_time(), resident()
ways[way]()
seconds, size = time.process_time() - began, resident() - before
print(f"{way}: {seconds:.1f} CPU seconds, {size:.0f} MB, sympy imported: {'sympy' in sys.modules}")
heavy = way in ("meta", "AdamW")
assert ("torch._dynamo" in sys.modules) == ("sympy" in sys.modules) == heavy
assert size > 30 if heavy else size < 10
PYTHON
for way in cpu meta AdamW adamw; do
    env/bin/python measure.py "$way"
done
