"""Settings of the methods, and the plans that follow from them, one module for each method.

A plan consists of numbers. Nothing here imports torch, so that a run can be planned again without
it.
"""
