"""What is measured of the kit, beside what one would use instead."""
