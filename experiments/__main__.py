"""`python -m experiments COMMAND` is `surfdiff COMMAND`."""

from experiments.harness.commands.main import main

main()
