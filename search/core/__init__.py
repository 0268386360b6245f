"""The rules of a search, pure: what to train next, and for how long. No Ray, no Optuna, no MLflow."""
