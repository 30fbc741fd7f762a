"""Publish a finished run: its picture, its numbers, and the README's table of them.

A quickstart run is added to docs/results.json under the name of its folder, and docs/overview.png
drawn (of the first run there); of a benchmark come docs/speed.json and docs/growth.png, of a
search_cost docs/search.json. The README is rewritten between its markers.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parser = Parser("publish", __doc__)
    parser.add_argument("run", type=Path, help="of a quickstart, a benchmark or a search_cost")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parsed = parser.parse_args(arguments)
    with refusing("publish", parsed.traceback):
        from experiments.harness.publishing.publish import publish

        publish(parsed.run, parsed.docs, parsed.readme)
    print(f"written: {parsed.docs} and {parsed.readme}")
