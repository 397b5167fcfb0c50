"""Defines the interface of every method, and of a fitted generator."""
