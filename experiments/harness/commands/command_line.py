"""What commands share: parse arguments, compose a config, run, report errors.

Bad input ends with one sentence and exit code 2, before any compute. Nothing is imported here that
takes long, so that `--help` is quick.
"""

import argparse
import errno
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn

from experiments.harness.runs.shipped_models import file_of

log = logging.getLogger(__name__)

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


def run_from_config(
    entry: str,
    module: str,
    doc: str,
    examples: Sequence[str],
    arguments: Sequence[str],
    again: str = "continues where it stopped",
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Compose the config of an entry point and call the `run` of a module with its settings.

    Args:
        entry: the command, and the name of its file in `conf/`.
        module: imported when the config is valid.
        doc: what the command does, for `--help`.
        examples: overrides, for `--help`.
        arguments: the command line after the command's name.
        again: what the same command does after an interruption.
        inputs: keys of files or folders that must exist, and what they are; checked before
            anything that takes long is imported.
    """
    with refusing(entry, TRACEBACK in arguments, again):
        given = _parser(entry).parse(arguments)
        if given.help:
            from experiments.harness.commands.usage import usage

            print(usage(entry, doc, examples, given.directory))
            return
        every = _settings(entry, given)
        if given.cfg:
            import yaml

            shown = [one.plain() for one in every]
            print(yaml.safe_dump_all(shown, sort_keys=False, allow_unicode=True), end="")
            return
        for settings in every:
            _require(settings, inputs or {})
        run = import_module(module).run
        for number, settings in enumerate(every, start=1):
            if len(every) > 1:
                log.info(f"run {number} of {len(every)}: {settings.name}")
            run(settings)


def _require(settings: Any, inputs: Mapping[str, str]) -> None:
    """ValueError for an input that is no name of something shipped, and no file or folder."""
    for key, kind in inputs.items():
        path = attrgetter(key)(settings)
        if kind == "checkpoint" and path is not None and file_of(path, key):
            continue
        is_path = path is not None and (kind != "data set" or Path(path).suffix)
        if is_path and not Path(path).exists():
            raise ValueError(f"there is no {kind.replace('data set', 'file')} {path}")


def _settings(entry: str, given: argparse.Namespace) -> list[Any]:
    """Return the settings of each run; ValueError if one of them is not valid."""
    from experiments.harness.config.compose import load

    if not given.multirun:
        return [load(entry, given.overrides, given.directory)]
    from experiments.harness.config.overriding import grid
    from experiments.harness.config.texts import as_texts

    every = []
    for overrides, differing in grid(as_texts(given.overrides, entry)):
        settings = load(entry, overrides, given.directory)
        if differing:
            name = "-".join(filter(None, [settings.name, differing]))
            settings = load(entry, [*overrides, f"name='{name}'"], given.directory)
        every.append(settings)
    names = [settings.name for settings in every]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"-m: two runs would be called {twice[0]}; add name=A,B,...")
    return every


def _parser(entry: str) -> "OverridesParser":
    parser = OverridesParser(entry)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    add_config_dir(parser)
    return parser


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Add the folder of a user's own files of groups, such as calculator/mine.yaml."""
    parser.add_argument("-cd", "--config-dir", dest="directory", type=Path)


class Parser(argparse.ArgumentParser):
    """Arguments of a command without a config; `--traceback` is one of all."""

    def __init__(self, command: str, doc: str | None, add_help: bool = True) -> None:
        super().__init__(
            f"surfdiff {command}",
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=add_help,
            allow_abbrev=False,
        )
        self.command = command
        self.add_argument(TRACEBACK, action="store_true", help="show where an error came from")

    def error(self, message: str) -> NoReturn:
        refuse(self.command, ValueError(f"{message}; --help shows the usage"))


class OverridesParser(Parser):
    """Arguments of a command whose words are `overrides`; `--cfg` or `--cfg job` prints them."""

    def __init__(self, command: str) -> None:
        super().__init__(command, None, add_help=False)
        self.add_argument("overrides", nargs="*")
        self.add_argument("-c", "--cfg", choices=["job"])

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse words and options in any order; the value of `--cfg` may be left out."""
        completed = []
        for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
            bare = argument in ("-c", "--cfg") and following not in ("job", "hydra", "all")
            completed.append("--cfg=job" if bare else argument)
        return self.parse_intermixed_args(completed)


@contextmanager
def refusing(command: str, traceback: bool = False, again: str = "starts anew") -> Iterator[None]:
    """Turn bad input into one sentence and exit code 2, an interruption into exit code 130."""
    try:
        yield
    except BrokenPipeError:
        raise  # nothing is wrong with the input (see `main.main`)
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
