"""A run: trained, evaluated, calibrated anew, documented."""
