"""Put random searches among the data that `sdedata` carries, and rewrite its datasheet.

    surfdiff package_data rss_c2x8=runs/generate_data/c2x8

Without arguments only the datasheet is rewritten: its numbers between the markers, its picture, and
the relaxed Ag6 model, which is made if it is missing.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parser = Parser("package_data", __doc__)
    parser.add_argument("runs", nargs="*", metavar="NAME=RUN", help="a set's name, and its search")
    parser.add_argument("--folder", type=Path, help="where the sets are; default: sdedata's own")
    parsed = parser.parse_args(arguments)
    with refusing("package_data", parsed.traceback):
        from experiments.harness.publishing.package_data import package, rewrite
        from sdedata import shipped

        folder = parsed.folder or shipped.FOLDER
        pairs = [run.partition("=") for run in parsed.runs]
        if not all(name and path for name, _, path in pairs):
            raise ValueError("give the set that a search becomes: NAME=RUN")
        package({name: Path(path) for name, _, path in pairs}, folder)
        rewrite(folder)
    print(f"written: {folder}")
