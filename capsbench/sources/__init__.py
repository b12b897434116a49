"""What a user's code is made of: which files it brings in, how it is imported, and what identifies it."""
