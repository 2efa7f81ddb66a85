"""What can be known of a model before it is loaded, and why it could not be used."""
