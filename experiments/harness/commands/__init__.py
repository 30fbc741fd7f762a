"""The commands that people type, by name."""
