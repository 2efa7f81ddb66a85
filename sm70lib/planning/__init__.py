"""What every step of a study needs, before anything is loaded."""
