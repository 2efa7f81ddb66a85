"""Parameters: the names that a study may give, and what their values may be."""
