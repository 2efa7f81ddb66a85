"""A study: its parameters, its steps and their records, and the results that it keeps."""
