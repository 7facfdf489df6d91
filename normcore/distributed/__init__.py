"""Processes that each hold a part of the data, and the exact merging of what they observe."""
