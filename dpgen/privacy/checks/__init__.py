"""Checks of a privacy statement, by what they look at. `dpgen.privacy.verification` makes them."""
