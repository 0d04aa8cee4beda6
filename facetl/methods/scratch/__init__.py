"""Nets that are trained from random weights."""
