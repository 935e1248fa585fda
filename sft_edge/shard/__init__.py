"""One data set as many: what every client of a rehearsed federation holds."""
