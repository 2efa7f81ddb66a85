"""Mistakes: rules that tell them apart, the items behind a number, and pages of items."""
