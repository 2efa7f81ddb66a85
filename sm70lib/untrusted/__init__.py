"""YAML, patterns, templates and texts of others, handled so that none does harm."""
