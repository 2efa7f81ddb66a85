"""Small models and a few rows under real names, and a hub on this machine that serves them."""
