"""Judges: models of other families, and people, who read the replies that a rubric is for."""
