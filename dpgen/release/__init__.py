"""Writes the pages that go with a synthetic set, all derived from its privacy statement."""
