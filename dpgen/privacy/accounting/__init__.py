"""Prices events: from what touched the records to epsilon."""
