"""A client's side of a federation."""
