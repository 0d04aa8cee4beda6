"""A family's photo collection: photos, faces, people, and everything that was ever said about them."""
