"""The cloud's side of federations: rounds, averages, what is kept of them."""
