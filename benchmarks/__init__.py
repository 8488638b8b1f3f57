"""Speed as ratios: ``python -m benchmarks [--quick] [-k CASE] [--compare [FILE]]``.

Absolute times say more of the machine than of the code, so every figure is a ratio between two
pieces of work that were measured in turns in one process. Nothing here asserts a time.
"""
