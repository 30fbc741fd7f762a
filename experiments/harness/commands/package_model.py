"""Put a trained score and force field among the models that the package carries, with a card.

surfdiff package_model silver_oxide runs/mine/train/score runs/mine/train/forcefield
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parser = Parser("package_model", __doc__)
    parser.add_argument("name", help="what the model will be called")
    parser.add_argument("score", type=Path, help="folder of the score's training")
    parser.add_argument("forcefield", type=Path, help="folder of the force field's training")
    parser.add_argument("--folder", type=Path, help="where the models are; default: the package's")
    parsed = parser.parse_args(arguments)
    with refusing("package_model", parsed.traceback):
        from experiments.harness.publishing.package_model import package
        from experiments.harness.runs.shipped_models import FOLDER

        trained = {"score": parsed.score, "forcefield": parsed.forcefield}
        folder = package(parsed.name, trained, parsed.folder or FOLDER)
    print(f"written: {folder}")
