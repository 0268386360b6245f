"""A first search in Python: its trials as a table, its champion, and one image classified by it.

python examples/first_search.py            the synthetic set, ten trials: a few minutes on two cores
python examples/first_search.py --quick    two small trials
"""

from __future__ import annotations

import sys

import ctsearch


def main() -> None:
    budget = {"num_trials": 2, "max_epochs": 2, "arch": "small_cnn"} if "--quick" in sys.argv else {"num_trials": 10}
    result = ctsearch.search(progress=True, **budget)  # data="slices/" searches images of your own

    trials = result.trials.to_dataframe().sort_values("auc", ascending=False)
    print(trials[["trial", "outcome", "auc", "epochs", "learning_rate", "batch_size"]])

    champion = result.champion
    if champion is None:
        sys.exit(f"no trial finished an epoch: {result.stop_reason}")
    print(f"trial {champion.trial}: validation {champion.validation:.3f}, sealed test {champion.test['auc']}")

    image = next(result.folder.parents[1].glob("cache/ctsearch-demo/*/*/*.png"))
    print(champion.classify(image).T)


if __name__ == "__main__":
    main()
