"""Settings of the methods, and the plans that follow from them, one module for each method.

A plan is numbers: nothing here imports torch, so that a run is planned again without it.
"""
