"""Generated from protos/ by `make proto`; committed, never edited; a test compares."""
