"""Metrics of ranked lists and predicted ratings, with intervals over users; arrays in, numbers and rows out."""
