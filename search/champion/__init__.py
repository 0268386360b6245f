"""The end of a search: the champion is chosen, scored once on the sealed test, registered and reported."""
