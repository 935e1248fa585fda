"""gRPC as both sides use it: options, the map of errors, and the session's spec as messages."""
