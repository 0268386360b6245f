"""What is called at a search's events: MLflow, progress, checkpoints, timings, records. They decide nothing."""
