"""Who hears of a search's events: MLflow, the progress table, checkpoints, timings, records. They decide nothing."""
