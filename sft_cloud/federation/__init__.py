"""Federations: many clients that train one model together, round by round."""
