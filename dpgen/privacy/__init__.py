"""What is spent and how: accounting, ledger, noise, clipping, mechanisms, certificate. Imports
nothing else of dpgen.
"""
