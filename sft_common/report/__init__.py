"""What pages with pictures are made of, on either side. It needs no torch and no cloud."""
