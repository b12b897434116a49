"""Data sets of others, imported as data files of ours."""
