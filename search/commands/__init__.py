"""The commands of `ctsearch` beside `search`: train, classify, export, submit, models, recipes."""
