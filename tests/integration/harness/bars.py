"""Two tasks that show their progress at once, for a test with a terminal."""

import logging
import sys
import time
from functools import partial

from experiments.harness.execution.progress import progress
from experiments.harness.execution.workers import side_by_side

STEPS = 20


def count(name: str, observe: object) -> str:
    for step in progress(range(STEPS), "train"):
        if step == STEPS // 2:
            logging.getLogger("experiments.count").info("half of the steps are done")
        time.sleep(0.02)
    return name


def draw_side_by_side() -> None:
    names = ("forcefield", "score")
    done = dict(side_by_side({name: partial(count, name) for name in names}))
    sys.exit(done != {name: name for name in names})
