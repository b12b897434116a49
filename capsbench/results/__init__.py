"""The record of one cell: what a run writes and what reports read."""
