"""A small embedded data set of short English reviews for text classification."""
