"""The training set: templates, tokens and labels, and the audit of its rows."""
