"""Checkpoints, resuming, guards and the run folder; import from the modules, some of them are
heavy.
"""
