"""Measurements through the real programs, one file for each question; no part of the packages."""
