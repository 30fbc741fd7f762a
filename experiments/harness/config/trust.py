"""Which objects a file may name: a stranger's file must not choose which code runs.

What is typed on the command line is built whatever it is. What stands in a run folder, a data set,
a model's card, an experiment or a sweep is built if it is on the list here; with `trust=true` the
commands that read such files build everything. What a resolver fills in, such as ${oc.env:HOME},
is for the command line alone.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from experiments import calculators
from experiments.harness.config.instantiate import OWN

NAMED = sorted({*calculators.__all__} - {"require_elements"})
KNOWN = re.compile(
    r"painnx\.(ScoreNetwork|ForceField)"
    r"|vpsde\.[A-Za-z]\w*"
    rf"|experiments\.calculators\.({'|'.join(NAMED)})"
    rf"|{'|'.join(map(re.escape, OWN))}"
    r"|ase\.calculators\.(emt\.EMT|lj\.LennardJones|morse\.MorsePotential)"
    r"|optuna\.(samplers|pruners)\.[A-Z]\w*"
    r"|concurrent\.futures\.(Thread|Process)PoolExecutor"
    r"|multiprocessing\.get_context"
)
"""Names that compute, and start no program: ASE's calculators of files, and executors of clusters,
take command lines as arguments, and torch can load code."""
METHOD, OURS = "hydra.utils.get_method", "experiments.harness.execution.workers.follow_parent"
"""The one function that a config hands on without a call (conf/executor/processes.yaml)."""
REMEDY = "if you know who wrote that, add trust=true"


def require_known(content: Any, where: str, remedy: str = REMEDY) -> None:
    """Raise ValueError, beginning with `where`, for a `_target_` that is not on the list.

    Also for an argument of one that is a path, which may lead to code (pickled weights; our own
    model files hold none), or that is filled in from elsewhere (${...}).
    """
    for node in _targets(content):
        target = node["_target_"]
        known = isinstance(target, str) and KNOWN.fullmatch(target)
        if not known and (target, node.get("path")) != (METHOD, OURS):
            raise ValueError(f"{where} names {target!r:.80}, which is not built unasked; {remedy}")
        for key, value in node.items():
            code = r"\$\{" if target in OWN else r"[/\\]|\$\{"
            if key != "_target_" and re.search(code, str(value)):
                raise ValueError(f"{where} gives {target} {key}={value!r:.80}; {remedy}")


def require_no_resolver(content: Any, where: str) -> None:
    """Raise ValueError, beginning with `where`, for a text such as ${oc.env:HOME}.

    It is filled in from this machine, and would end in records that are published.
    """
    if isinstance(content, Mapping):
        content = [*content, *content.values()]
    if isinstance(content, list | tuple):
        for item in content:
            require_no_resolver(item, where)
    elif isinstance(content, str) and ":" in content.partition("${")[2]:
        raise ValueError(
            f"{where} holds {content!r:.80}, which is filled in from this machine: write the "
            "value, or give it on the command line"
        )


def _targets(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping with a `_target_`, at any depth."""
    if isinstance(content, Mapping):
        if "_target_" in content:
            yield content
        content = list(content.values())
    if isinstance(content, list | tuple):
        for item in content:
            yield from _targets(item)
