"""The training set: templates, tokens and labels, and the audit of what is trained on."""
