"""Models loaded, described before they are loaded, and what they take."""
