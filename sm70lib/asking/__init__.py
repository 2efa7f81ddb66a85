"""What a model is asked: runs, prompts, and how they fit into its context."""
