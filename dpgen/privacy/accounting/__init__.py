"""From events to epsilon."""
