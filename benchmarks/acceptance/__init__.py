"""The measurements of `benchmarks.accuracy`, by kind of equation.

Each module has `MEASUREMENTS`, functions that yield `Figure`s. Set-ups and exact solutions are
those of the tests and are imported from there, so that a figure here is what a test holds to a bar.
"""
