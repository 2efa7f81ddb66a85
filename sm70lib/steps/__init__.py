"""Steps of a study: their keys and marks, what is kept, and what another study takes over."""
