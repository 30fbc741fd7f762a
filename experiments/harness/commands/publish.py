"""Publish a finished run of an experiment: its numbers, its pictures, and the text made of them.

Its numbers go to experiments/NAME/results.json; README.md, docs/ and the READMEs of the experiments
are rewritten between their markers. Without a run only the text is.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parser = Parser("publish", __doc__)
    parser.add_argument("run", type=Path, nargs="?", help="of an experiment, e.g. runs/speed")
    parser.add_argument("--root", type=Path, default=Path("."), help="a checkout of the project")
    parsed = parser.parse_args(arguments)
    with refusing("publish", parsed.traceback):
        from experiments.harness.publishing import index, pages, publish

        if parsed.run is not None:
            print(f"written: {publish.publish(parsed.run, parsed.root)}")
        for file, text in (pages.documents(parsed.root) | index.documents()).items():
            file.write_text(text, encoding="utf-8")
            print(f"written: {file}")
