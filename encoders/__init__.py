"""Spends m visual tokens: nested backbones, their connectors, shared work across m and what it all costs."""
