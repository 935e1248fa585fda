"""Model surgery: what is cut, where, and how the halves are filled. Pure torch and transformers."""
