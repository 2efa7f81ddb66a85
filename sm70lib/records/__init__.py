"""What steps have recorded: marks, what changed since, where it is put, and who may write."""
