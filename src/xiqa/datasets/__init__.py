"""Data sets of the classification studies: one reader per set, all giving the same records."""
