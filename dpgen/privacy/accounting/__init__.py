"""Prices events: computes epsilon from the mechanisms that ran on the records."""
