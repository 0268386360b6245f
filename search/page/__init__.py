"""The page of a search: what `ctsearch report` writes. It draws from the ledger, and asks nobody."""
