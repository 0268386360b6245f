"""The driver: runs once, on a laptop or on the head of a cluster. `run.py` is a search from top to bottom."""
