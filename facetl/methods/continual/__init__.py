"""People arrive over time: a head that learns them from cached features and keeps what it knew."""
