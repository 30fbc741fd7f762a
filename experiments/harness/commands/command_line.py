"""The command line that commands share: compose a config, check it, run, report errors.

`surfdiff train key=value ...` composes `conf/train.yaml` with Hydra's Compose API. Bad input ends
with one sentence and exit code 2, before any compute.
"""

import errno
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from omegaconf import DictConfig, OmegaConf

from experiments.harness.config.compose import CONF, load

CONTINUES = "then repeat the command, it continues"
REMEDIES = {
    errno.ENOSPC: f"free some, {CONTINUES}",
    errno.EDQUOT: f"free some, {CONTINUES}",
    errno.EFBIG: f"raise the limit (ulimit -f), {CONTINUES}",
    errno.EIO: f"check the disk, {CONTINUES}",
    errno.EACCES: "change its rights, or give another file or output=FOLDER",
    errno.EPERM: "change its rights, or give another file or output=FOLDER",
    errno.EROFS: "give another output=FOLDER",
    errno.ENOTDIR: "a file is in the way: give another output=FOLDER",
    errno.EEXIST: "a file is in the way: give another output=FOLDER",
}
"""What helps against what the operating system refuses."""

HELP = """{doc}

usage: surfdiff {entry} [KEY=VALUE ...] [--cfg] [--traceback] [--help]

  KEY=VALUE     change a value of the config below, e.g. {example}
  GROUP=NAME    take another file of a group: {groups}
  --cfg         print the composed config and stop
  --traceback   show where an error came from

The config, with its defaults:

{config}"""


def main(
    entry: str,
    run: Callable[[DictConfig], dict[str, Any]],
    doc: str,
    example: str,
    again: str = "continues where it stopped",
) -> None:
    """Parse the command line, run, and turn bad input into one sentence and exit code 2.

    again: what the same command does after an interruption.
    """
    arguments = sys.argv[1:]
    flags = {a for a in arguments if a.startswith("-")}
    overrides = [a for a in arguments if not a.startswith("-")]
    try:
        unknown = flags - {"--help", "-h", "--cfg", "--traceback"}
        if unknown:
            raise ValueError(f"unknown option {sorted(unknown)[0]}; --help lists what there is")
        if flags & {"--help", "-h"}:
            print(_help(entry, doc, example))
            return
        config = load(entry, overrides)
        if "--cfg" in flags:
            print(OmegaConf.to_yaml(config), end="")
            return
        run(config)
    except (ValueError, OSError) as error:
        if "--traceback" in flags:
            raise
        refuse(entry, error)
    except KeyboardInterrupt:
        print(f"{entry}: interrupted; the same command {again}", file=sys.stderr)
        sys.exit(130)


def refuse(entry: str, error: Exception) -> NoReturn:
    """End with one sentence and exit code 2."""
    text = of_the_system(error) if isinstance(error, OSError) else str(error)
    print(f"{entry}: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(2)


def of_the_system(error: OSError) -> str:
    """What the operating system refused, on which file, and what helps."""
    if error.errno is None:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    what, remedy = error.strerror or str(error), REMEDIES.get(error.errno)
    return f"{where}{what[0].lower()}{what[1:]}" + (f"; {remedy}" if remedy else "")


def _help(entry: str, doc: str, example: str) -> str:
    groups = sorted(p.name for p in CONF.iterdir() if p.is_dir())
    listing = "; ".join(
        f"{g}={'|'.join(sorted(f.stem for f in (CONF / g).glob('*.yaml')))}" for g in groups
    )
    text = (CONF / f"{entry}.yaml").read_text()
    return HELP.format(doc=doc.strip(), entry=entry, example=example, groups=listing, config=text)
