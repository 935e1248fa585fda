"""The edge side: holds the data and net1. It never holds a parameter of net2."""
