"""Two runs beside each other: what differs, and what would have been seen."""
