"""Keys and passwords of the user are in no file of a run, in no log, and not in W&B's log."""

import secrets

from tests.integration.sweeps.tiny_sweep import finish, trained, write
from tests.integration.sweeps.tiny_sweep import start as start_sweep
from tests.tiny import PATIENCE, SAMPLE, TRAIN, start

VARIABLES = ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "PGPASSWORD", "MP_API_KEY")


def new_key() -> str:
    """Return 40 hexadecimal digits, as a key of W&B has."""
    return secrets.token_hex(20)


def require_absent(hidden, home, reported):
    """No file below `home` and nothing `reported` holds one of these texts; W&B's log is there."""
    assert list(home.rglob("*.wandb"))
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 10
    for text in hidden:
        assert text not in reported
        assert not [path for path in files if text.encode() in path.read_bytes()]


def test_a_training_keeps_keys_to_itself(world, tmp_path):
    keys = {name: new_key() for name in VARIABLES}
    netrc, kept = tmp_path / "netrc", new_key()
    netrc.write_text(f"machine api.wandb.ai login user password {kept}\n")
    process = start(
        "train", *TRAIN, "task=score", "train.steps=4", f"data.path={world.minima}",
        f"output={tmp_path}/runs", "tracking.mode=offline", env_more=keys | {"NETRC": str(netrc)},
    )  # fmt: skip
    reported = "".join(process.communicate(timeout=PATIENCE))
    assert process.returncode == 0, reported
    require_absent([*keys.values(), kept], tmp_path / "runs", reported)


def test_a_sweep_keeps_the_password_of_its_storage_to_itself(world, postgresql, tmp_path):
    """Which is part of its command line."""
    password = new_key()
    user, at, place = postgresql.removeprefix("postgresql://").partition("@")
    url = f"postgresql://{user}:{password}{at}{place}"
    stages = {"score": [*TRAIN, "train.steps=4", f"data.path={world.minima}"],
              "sample": [*SAMPLE, "n=2", "guide=none", "composition=Ag2O"]}  # fmt: skip
    sweep = trained(budget=1, stages=stages, tracking={"mode": "offline"})
    file = write(tmp_path / "tiny.yaml", sweep)
    process = start_sweep(file, f"runs={tmp_path}/runs", f"storage={url}")
    reported = finish(process)
    require_absent([password], tmp_path / "runs", reported)
