"""Training of a head: settings, front, layers, objectives, and the fit that brings them together."""
