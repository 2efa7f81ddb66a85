"""Two studies beside each other: parameters, scores on the same items, courses of training."""
