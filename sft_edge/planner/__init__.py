"""Chooses split layer, cut, rank, encoding and micro-batches for a link and two devices."""
