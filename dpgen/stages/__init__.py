"""The stages that compute on private records, each charged, with code that several methods share.
"""
