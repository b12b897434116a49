"""Measures of a network's answers: accuracy, gaps, factors, pairs, segmentation."""
