"""What commands share: parse arguments, compose a config, run, report errors.

Bad input ends with one sentence and exit code 2, before any compute. Nothing is imported here that
takes long, so that `--help` is quick.
"""

import argparse
import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NoReturn

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
"""What helps against an error of the operating system."""
TRACEBACK = "--traceback"

HELP = """{doc}

usage: surfdiff {entry} [KEY=VALUE ...] [--cfg] [--traceback] [--help]

  KEY=VALUE     change a value of the config below, e.g. {example}
  GROUP=NAME    take another file of a group: {groups}
  --cfg         print the composed config and stop
  --traceback   show where an error came from

The config, with its defaults:

{config}"""


def run_from_config(
    entry: str,
    module: str,
    doc: str,
    example: str,
    arguments: Sequence[str],
    again: str = "continues where it stopped",
) -> None:
    """Compose the config of an entry point and call the `run` of a module with it.

    Args:
        entry: the command, and the name of its file in `conf/`.
        module: imported when the config is valid.
        doc: what the command does, for `--help`.
        example: overrides, for `--help`.
        arguments: the command line after the command's name.
        again: what the same command does after an interruption.
    """
    flags = {a for a in arguments if a.startswith("-")}
    overrides = [a for a in arguments if not a.startswith("-")]
    with refusing(entry, TRACEBACK in flags, again):
        unknown = flags - {"--help", "-h", "--cfg", TRACEBACK}
        if unknown:
            raise ValueError(f"unknown option {sorted(unknown)[0]}; --help lists what there is")
        if flags & {"--help", "-h"}:
            print(_help(entry, doc, example))
            return

        import yaml

        from experiments.harness.config.compose import load

        config = load(entry, overrides)
        if "--cfg" in flags:
            print(yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True), end="")
            return
        import_module(module).run(config)


class Parser(argparse.ArgumentParser):
    """Arguments of a command without a config; `--traceback` is one of all."""

    def __init__(self, command: str, doc: str | None) -> None:
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(f"surfdiff {command}", description=doc, formatter_class=form)
        self.command = command
        self.add_argument(TRACEBACK, action="store_true", help="show where an error came from")

    def error(self, message: str) -> NoReturn:
        refuse(self.command, ValueError(f"{message}; --help shows the usage"))


@contextmanager
def refusing(command: str, traceback: bool = False, again: str = "starts anew") -> Iterator[None]:
    """Turn bad input into one sentence and exit code 2, an interruption into exit code 130."""
    try:
        yield
    except (ValueError, OSError) as error:
        if traceback:
            raise
        refuse(command, error)
    except KeyboardInterrupt:
        print(f"{command}: interrupted; the same command {again}", file=sys.stderr)
        sys.exit(130)


def refuse(command: str, error: Exception) -> NoReturn:
    """End with one sentence and exit code 2."""
    text = of_the_system(error) if isinstance(error, OSError) else str(error)
    print(f"{command}: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(2)


def of_the_system(error: OSError) -> str:
    """Describe an error of the operating system: the file, what is wrong, what helps."""
    if error.errno is None:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    what, remedy = error.strerror or str(error), REMEDIES.get(error.errno)
    return f"{where}{what[0].lower()}{what[1:]}" + (f"; {remedy}" if remedy else "")


def _help(entry: str, doc: str, example: str) -> str:
    from experiments.harness.config.compose import CONF

    groups = sorted(p.name for p in CONF.iterdir() if p.is_dir())
    listing = "; ".join(
        f"{g}={'|'.join(sorted(f.stem for f in (CONF / g).glob('*.yaml')))}" for g in groups
    )
    text = (CONF / f"{entry}.yaml").read_text()
    return HELP.format(doc=doc.strip(), entry=entry, example=example, groups=listing, config=text)
