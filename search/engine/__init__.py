"""Ray Tune and Optuna: the cluster, who may run where, what is proposed, and which trial goes on."""
