"""Scores and statistics; numpy only, no torch."""
