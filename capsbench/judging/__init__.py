"""Scores of networks that ran elsewhere: what they must be given for, how they are read, and a result from them."""
