"""Nets that are trained from scratch: FaceNet's, and a small one."""
