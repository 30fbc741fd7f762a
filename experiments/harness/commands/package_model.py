"""Put trained networks among the models that the package carries, with a card.

These are a score and a force field, or corrections of one calculator (trainings with data.minus):

surfdiff package_model silver_oxide runs/mine/train/score runs/mine/train/forcefield
surfdiff package_model silver_oxide_pbe runs/mine/train/difference runs/mine/train/difference_1
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parser = Parser("package_model", __doc__)
    parser.add_argument("name", help="what the model will be called")
    parser.add_argument("trainings", nargs="+", type=Path, help="folders of the trainings")
    parser.add_argument("--folder", type=Path, help="where the models are; default: the package's")
    parsed = parser.parse_args(arguments)
    with refusing("package_model", parsed.traceback):
        from experiments.harness.publishing.package_model import package
        from experiments.harness.runs.shipped_models import FOLDER

        folder = package(parsed.name, parsed.trainings, parsed.folder or FOLDER)
    print(f"written: {folder}")
