"""Accounts for what is spent: accounting, ledger, noise, clipping, mechanisms, certificate. Imports
nothing else of dpgen but `storage`.
"""
