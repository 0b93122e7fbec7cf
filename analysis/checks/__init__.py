"""Policies held against stored runs: what a gate measures, and the verdicts. CI and training ask the same question here."""
