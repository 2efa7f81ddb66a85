"""Cards of what a study leaves, in the form that the Hugging Face hub reads."""
