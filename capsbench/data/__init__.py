"""The digits that ship in the package; their origin and licence stand in NOTICE.md beside them."""
