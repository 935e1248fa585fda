"""What travels: tensors without padding, as checked messages. It knows no model and no RPC."""
