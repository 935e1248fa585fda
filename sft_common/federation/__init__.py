"""What both sides of a federation share: its plan, and how updates become an average. No RPC."""
