"""The cloud side: holds net2 of every session and trains it. It never sees a token id."""
