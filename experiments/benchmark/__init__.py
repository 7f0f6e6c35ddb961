"""What `experiments/benchmark.py` measures (`networks` of `layers`, `operations`), with what (`peers`), and how.

`worker` runs in one process for each peer and `measure` in the parent, which tells the workers when; `report` prints.
Nothing here but the peers imports a framework: a peer may run under another Python, which has that one alone.
"""
