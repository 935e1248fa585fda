"""An edge as one of many: what a client of a federation does."""
