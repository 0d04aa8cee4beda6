"""The page of a library, served on this machine alone."""
