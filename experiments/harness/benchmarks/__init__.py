"""The parts of `surfdiff benchmark`."""
