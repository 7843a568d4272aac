"""Solver output that streams into training while it is computed."""
