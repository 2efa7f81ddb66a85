"""A study run whole with stand-ins: small models and a few rows under real names, and a hub that serves them."""
