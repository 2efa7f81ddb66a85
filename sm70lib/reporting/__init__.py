"""What the report says in words and in which order."""
