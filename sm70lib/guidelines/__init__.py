"""Guidelines for reports of studies, filled from what a study recorded."""
