"""Models asked, and their answers kept line by line."""
