#!/usr/bin/env bash
# e3nn 0.6.0 with torch 2.13.0: importing e3nn.o3 imports torch's whole compiler, to stay out of it.
#
# e3nn marks one function with torch.compiler.disable, so that it is never compiled. The mark itself
# imports torch._dynamo, and with it SymPy: some 500 modules, which `import torch` alone has not, and
# nearly all of the time that e3nn takes to import, in every process that loads a potential built on
# it (SevenNet, NequIP, Allegro), whether or not anything is compiled. It is the same with the mark
# on any function of one's own.
#
# Seen, Python 3.11: 0.9 CPU seconds and 512 modules with the mark alone, and as much with e3nn.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 e3nn==0.6.0
cat > measure.py <<'PYTHON'
import sys
import time

import torch


def compiler():
    return [name for name in sys.modules if name.split(".")[0] == "sympy" or "torch._dynamo" in name]


assert not compiler(), "import torch has the compiler already"
begun = time.process_time()
if sys.argv[1] == "mark":
    torch.compiler.disable(lambda x: x)
else:
    import e3nn.o3
print(f"{sys.argv[1]}: {time.process_time() - begun:.1f} CPU seconds, {len(compiler())} modules")
assert "torch._dynamo" in compiler() and "sympy" in compiler()
PYTHON
env/bin/python measure.py mark
env/bin/python measure.py import
