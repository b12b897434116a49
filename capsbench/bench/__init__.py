"""One cell of an experiment, and running many."""
