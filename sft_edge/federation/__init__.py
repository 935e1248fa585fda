"""The clients of federations: what they are told, what they train, what they hand in."""
