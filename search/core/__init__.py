"""What a search is, without any of its libraries: configuration, space, ledger, rungs, budget, folder."""
