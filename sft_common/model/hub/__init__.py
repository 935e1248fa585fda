"""Single tensors of a published model, fetched by byte range and kept. It knows no architecture."""
