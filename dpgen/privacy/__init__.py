"""Accounts for privacy loss: accounting, ledger, noise, clipping, mechanisms, certificate. Of dpgen
it imports `storage` only.
"""
