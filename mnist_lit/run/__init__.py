"""Runs: their folders, checkpoints, signals and continuation, and ``make_trainer``."""
