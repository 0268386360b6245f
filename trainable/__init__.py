"""A trial: runs many times, on any node. Usable alone, without Ray, Optuna or MLflow."""
