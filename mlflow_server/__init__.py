"""The tracking server: an embedded default that a search starts for itself."""
