"""What papers and studies claim, and who judges it."""
