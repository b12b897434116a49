"""Training a network, and what a step costs."""
