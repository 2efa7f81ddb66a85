"""Stand-ins for a rehearsal: small models and a few rows under real names, and a hub that serves
them."""
